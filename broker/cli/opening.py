"""Opening an instance for ssh: a lease that is good, from this machine or from the service."""

from __future__ import annotations

import os
from functools import partial

from broker.cli import output
from broker.cli.service import service
from broker.client import BrokerProblem, Misconfigured, new_idempotency_key
from broker.client.errors import HostKeysUnknown
from broker.client.leases import QUEUE_SECONDS, Leases
from broker.client.names import is_well_formed
from broker.client.waiting import patiently
from broker.client.whose import person, service_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from broker.client import Broker
    from broker.client.documents import CredentialDocument
    from broker.client.lease import Lease, Purpose


def opened(instance: str, purpose: Purpose, seconds: float) -> Lease:
    """Answer a lease that is good; a new one is announced, with what the service warns of.

    Args:
        instance: a bare name, or `account/region/name`.
        purpose: what for.
        seconds: how long to wait for what is not ready yet.

    Raises:
        ClientError: there is none to be had.
    """
    if not is_well_formed(instance):
        raise Misconfigured("this is not the name of an instance: write NAME or ACCOUNT/REGION/NAME")
    at, me, queue = service_url(os.environ), person(os.environ), seconds + QUEUE_SECONDS
    leases = Leases(os.environ, at, me, output.talk, queue_seconds=queue)
    return leases.obtain(instance, purpose, partial(_ask, instance, purpose, seconds))


def _ask(instance: str, purpose: Purpose, seconds: float) -> CredentialDocument:
    """Ask the service, as long as it helps."""
    with service() as broker:
        try:
            credential = patiently(_Attempt(broker, instance, purpose), seconds, output.talk)
        except BrokerProblem as problem:
            if problem.code == "protocol_not_supported":
                problem.next = f"`broker rdp {instance}` opens it"
            raise
    output.talk(f"{instance} is open until {credential['lease']['expires_at']} (lease {credential['lease']['id']})")
    for warning in credential["warnings"]:
        output.talk(f"warning: {warning}")
    return credential


class _Attempt:
    """Asks under one key until there is an answer; one without host keys is of no use, and the next is asked anew."""

    def __init__(self, broker: Broker, instance: str, purpose: Purpose) -> None:
        self._broker = broker
        self._instance = instance
        self._purpose = purpose
        self._key = new_idempotency_key()

    def __call__(self) -> CredentialDocument:
        credential = self._broker.credential(
            self._instance, protocol="ssh", **self._purpose.document(), idempotency_key=self._key
        )
        if "ssh" in credential and not credential["ssh"]["known_hosts"]:
            self._key = new_idempotency_key()
            raise HostKeysUnknown
        return credential
