"""The door of this room: access details in, secrets in clear out, checked."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from broker.errors import KeyNotHeld, Overloaded, PasswordUndecryptable, UpstreamError
from broker.model import (
    AccessDetails,
    Clock,
    CredentialFacts,
    Health,
    Instance,
    Opened,
    SealedPassword,
    Secret,
    SshKeyPair,
)
from broker.unsealing.certificates import inspect
from broker.unsealing.custody import Custody
from broker.unsealing.keypairs import HeldKey, KeyPairId
from broker.unsealing.passwords import check_openssl, is_password, open_password

DEFAULT_KEY_PAIR: Final = "LightsailDefaultKeyPair"
"""The key pair that AWS holds itself, one per region; its passwords come in clear."""


class Vault:
    """Opens what AWS answers. SSH is inspected at once; RSA runs in a few threads with a bounded queue.

    Args:
        custody: The keys that are held.
        clock: The time.
        threads: One per core: RSA releases the GIL.
        queue: How many passwords may be waiting or being opened; more are refused.

    Raises:
        KeysUnavailable: When the OpenSSL at hand is older than 3.2.
    """

    def __init__(self, custody: Custody, clock: Clock, *, threads: int = 2, queue: int = 64) -> None:
        check_openssl()
        self._custody = custody
        self._clock = clock
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="unsealing")
        self._places = threading.BoundedSemaphore(queue)

    async def open(self, details: AccessDetails, instance: Instance) -> Opened:
        """Open one answer of GetInstanceAccessDetails.

        Args:
            details: What AWS answered.
            instance: The instance as it was listed; its key pair and its fingerprint must agree with the answer.

        Raises:
            UpstreamError: Key, certificate or clear password are not what they must be, or the password is sealed to
                another key pair than that of the instance.
            KeyNotHeld: The custom key pair is not in custody.
            PasswordUndecryptable: The key in custody does not open this ciphertext, or AWS's pair of this name is
                another one by now.
            Overloaded: Too many passwords are waiting.
        """
        match details.material:
            case SshKeyPair() as pair:
                return inspect(pair, details.username, self._clock())
            case SealedPassword() as sealed:
                held = await self._held(sealed, instance)
                password = await self._decrypt(sealed, held)
                return Opened(password=password, facts=CredentialFacts(key_pair=held.id.name))
            case Secret() as password:
                return _clear(password)

    def health(self) -> Health:
        """Say whether every key in custody can be used."""
        problems = len(self._custody.problems)
        detail = f"keys in custody: {len(self._custody.list())}"
        if problems:
            detail += f"; files that cannot be read: {problems}"
        return Health("keys", self._custody.complete, detail)

    def close(self) -> None:
        """Let what runs finish and drop what waits."""
        self._pool.shutdown(cancel_futures=True)

    async def _held(self, sealed: SealedPassword, instance: Instance) -> HeldKey:
        """Answer the one key that the password is sealed to, by all that AWS says."""
        if instance.key_pair and sealed.key_pair != instance.key_pair:
            raise UpstreamError(
                "the password is sealed to another key pair than that of the instance",
                detail="AWS sealed the password to another key pair than the one that it lists for the instance.",
                next_step="If the instance was made anew a moment ago, ask again in a minute.",
            )
        key_pair = KeyPairId(instance.ref.account, instance.ref.region, sealed.key_pair)
        held = await self._custody.find(key_pair)
        if held is None:
            raise KeyNotHeld(
                f"no key of {key_pair}",
                next_step="Ask an operator to put the key pair into custody: `broker keys add`.",
            )
        if instance.key_pair_fingerprint and not held.matches(instance.key_pair_fingerprint):
            raise PasswordUndecryptable(
                "the key pair was made anew at AWS",
                next_step="Ask an operator to put the new key into custody, `broker keys add`; ask again in a minute.",
            )
        return held

    async def _decrypt(self, sealed: SealedPassword, held: HeldKey) -> Secret:
        if not self._places.acquire(blocking=False):
            raise Overloaded("too many passwords to open", retry_after=1)
        job = self._pool.submit(open_password, sealed, held)
        job.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(job)


def _clear(password: Secret) -> Opened:
    text = password.reveal()
    if not text.isascii() or not is_password(text.encode("ascii")):
        raise UpstreamError("the clear password is none", detail="AWS answered with something that is no password.")
    return Opened(password=password, facts=CredentialFacts(key_pair=DEFAULT_KEY_PAIR))
