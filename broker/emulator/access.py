"""GetInstanceAccessDetails: what opens an instance."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Literal

from broker.emulator.callers import Clock
from broker.emulator.certificates import CertificateAuthority
from broker.emulator.errors import AwsError, invalid_input
from broker.emulator.estate import Instance
from broker.emulator.keys import KeyPool

Protocol = Literal["ssh", "rdp"]


class AccessDesk:
    """Makes access details: a new certificate at every call for ssh, the sealed password for rdp.

    `reuse` lets an ssh answer be given again for so long: untrue to Lightsail, but cheap where others are measured.
    """

    def __init__(self, authority: CertificateAuthority, keys: KeyPool, clock: Clock, reuse: timedelta) -> None:
        self._authority = authority
        self._keys = keys
        self._clock = clock
        self._reuse = reuse
        self._recent: dict[str, tuple[datetime, dict[str, object]]] = {}

    async def details(self, instance: Instance, asked: object) -> dict[str, object]:
        """Answer access details in AWS's shape; without a protocol, for the one of the platform.

        Raises:
            AwsError: InvalidInputException for a protocol that the platform does not speak,
                OperationFailureException for an instance that is not running.
        """
        protocol: Protocol = "rdp" if instance.is_windows else "ssh"
        if asked not in (None, protocol):
            raise invalid_input(f"The instance {instance.name} is not opened by {asked}.")
        if not instance.is_running:
            raise AwsError("OperationFailureException", f"The instance {instance.name} is not running.")
        now = self._clock()
        specific = self._rdp(instance, now) if instance.is_windows else await self._ssh(instance, now)
        return _common(instance, protocol, now) | specific

    async def _ssh(self, instance: Instance, now: datetime) -> dict[str, object]:
        made_at, answer = self._recent.get(instance.arn, (None, {}))
        if made_at is None or not made_at <= now < made_at + self._reuse:
            answer = await self._new_ssh(instance, now.replace(microsecond=0))
            self._recent[instance.arn] = (now, answer)
        return answer

    async def _new_ssh(self, instance: Instance, start: datetime) -> dict[str, object]:
        key = await self._keys.take()
        lifetime = instance.fixture.certificate_lifetime
        certificate = await asyncio.to_thread(
            self._authority.issue, key.public_key, instance.fixture.login, start, lifetime
        )
        return {"privateKey": key.pem, "certKey": certificate, "expiresAt": start + lifetime}

    def _rdp(self, instance: Instance, now: datetime) -> dict[str, object]:
        is_ready = instance.is_ready(now)
        return {
            "password": instance.password if is_ready and instance.has_default_key_pair else "",
            "passwordData": {
                "ciphertext": instance.ciphertext if is_ready else "",
                "keyPairName": instance.fixture.key_pair_name,
            },
        }


def _common(instance: Instance, protocol: Protocol, now: datetime) -> dict[str, object]:
    details: dict[str, object] = {
        "instanceName": instance.name,
        "protocol": protocol,
        "username": instance.fixture.login,
        "hostKeys": [key.described(instance.created_at) for key in instance.host_keys]
        if instance.is_ready(now)
        else [],
    }
    if instance.public_ip:
        details["ipAddress"] = instance.public_ip
    if instance.fixture.ipv6:
        details["ipv6Addresses"] = list(instance.fixture.ipv6)
    return details
