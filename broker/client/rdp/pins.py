"""The certificates by which an instance proves itself, and the one that answers."""

from __future__ import annotations

import re

from broker.client.errors import HostKeysUnknown, Misconfigured, Untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class CertificateUnknown(HostKeysUnknown):
    """AWS does not know yet by which certificate the instance proves itself, so nobody could tell who answers there."""

    detail = "AWS does not know the RDP certificate of the instance yet"


class CertificateMismatch(Untrusted):
    """Another certificate answers than the one that AWS names; no password was sent."""


def pins_of(fingerprints: Iterable[str]) -> tuple[str, ...]:
    """Read SHA-256 fingerprints, with or without colons; answer them in lower-case hex without.

    Raises:
        CertificateUnknown: there is none.
        Misconfigured: one is no SHA-256 fingerprint.
    """
    pins = tuple(text.replace(":", "").lower() for text in fingerprints)
    if not pins:
        raise CertificateUnknown
    if not all(map(_SHA256.fullmatch, pins)):
        raise Misconfigured("the service names a certificate by something that is no SHA-256 fingerprint")
    return pins


def colons(pin: str) -> str:
    """Spell a pin as every FreeRDP takes it: 2.11 knows it by its colons alone."""
    return bytes.fromhex(pin).hex(":").upper()


def hold_to(pins: Sequence[str], found: str, where: str) -> None:
    """Compare the certificate that answers, in lower-case hex, with the pins.

    Raises:
        CertificateMismatch: it is none of them.
    """
    if found in pins:
        return
    raise CertificateMismatch(
        f"{where} shows another certificate than the one that AWS names for the instance: {colons(found)} instead of "
        f"{' or '.join(map(colons, pins))}. No password was sent. Somebody may be in between, or the certificate was "
        "renewed on the instance and AWS has not heard of it: do not go on; let an operator compare it in the "
        "Lightsail console"
    )
