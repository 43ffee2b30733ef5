"""A private key and its certificate, in the forms that ssh-agent and ssh want them."""

from __future__ import annotations

import base64
import re

from broker.client.agent import Fields, mpint, string
from broker.client.errors import Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_CERTIFICATE = re.compile(
    r"((?:ssh-rsa|ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521))-cert-v01@openssh\.com) ([A-Za-z0-9+/]+={0,2})(?: .*)?",
    re.ASCII,
)
_UNFIT = "the service answered a certificate that ssh cannot use"
_MISFIT = "the service answered a key and a certificate that do not belong together"


def certificate_blob(line: str) -> bytes:
    """Answer what a certificate line holds; by this an agent names the key.

    Raises:
        Unreachable: it is no certificate of a user's key that OpenSSH knows.
    """
    return _parsed(line)[1]


def identity(private_key: str, certificate: str) -> bytes:
    """Put a key with its certificate as SSH_AGENTC_ADD_ID_CONSTRAINED wants them (draft-miller-ssh-agent, 3.2).

    Args:
        private_key: PEM without a passphrase: PKCS#1, PKCS#8, SEC 1 or OpenSSH's own; RSA, ECDSA or Ed25519.
        certificate: the line of a `-cert.pub` file.

    Raises:
        Unreachable: they cannot be read, or are not of one key.
    """
    name, blob = _parsed(certificate)
    public, private = _parts(_loaded(private_key))
    if _public_parts(blob) != public:
        raise Unreachable(_MISFIT)
    return string(name) + string(blob) + private


def _parsed(line: str) -> tuple[bytes, bytes]:
    found = _CERTIFICATE.fullmatch(line.strip())
    try:
        blob = base64.b64decode(found[2], validate=True) if found else b""
        if found and Fields(blob).string() == found[1].encode():
            return found[1].encode(), blob
    except ValueError:  # of base64 too
        pass
    raise Unreachable(_UNFIT)


def _loaded(pem: str) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    text = f"{pem.strip()}\n".replace("\r\n", "\n").encode()
    load = load_ssh_private_key if b"BEGIN OPENSSH" in text else load_pem_private_key
    try:
        return load(text, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unreachable("the service answered a private key that cannot be read") from None


def _parts(key: PrivateKeyTypes) -> tuple[list[bytes], bytes]:
    """Answer the public fields as a certificate holds them, and the private ones as an agent wants them."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    match key:
        case rsa.RSAPrivateKey():
            numbers = key.private_numbers()
            public = [mpint(numbers.public_numbers.e), mpint(numbers.public_numbers.n)]
            return public, b"".join(map(mpint, (numbers.d, numbers.iqmp, numbers.p, numbers.q)))
        case ec.EllipticCurvePrivateKey():
            point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            curve = key.curve.name.replace("secp", "nistp").removesuffix("r1").encode()
            return [string(curve), string(point)], mpint(key.private_numbers().private_value)
        case ed25519.Ed25519PrivateKey():
            point = key.public_key().public_bytes_raw()
            return [string(point)], string(point) + string(key.private_bytes_raw() + point)
    raise Unreachable("the service answered a private key of a kind that ssh does not know")


def _public_parts(blob: bytes) -> list[bytes]:
    """Answer the public fields of a certificate: they follow its name and a nonce (PROTOCOL.certkeys)."""
    fields = Fields(blob)
    try:
        count = 1 if fields.string().startswith(b"ssh-ed25519") else 2
        fields.string()
        return [string(fields.string()) for _ in range(count)]
    except ValueError:
        raise Unreachable(_UNFIT) from None
