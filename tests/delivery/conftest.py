import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.model import HostKey
from tests.doubles.unsealing import ed25519_key, rsa_key


@pytest.fixture(scope="session")
def host_keys() -> tuple[HostKey, ...]:
    """The three kinds of SSH host keys that Lightsail reports."""
    keys = (ed25519_key(), rsa_key(), ec.generate_private_key(ec.SECP256R1()))
    lines = [key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode().split() for key in keys]
    return tuple(
        HostKey(algorithm=algorithm, public_key=blob, sha256=hashlib.sha256(base64.b64decode(blob)).hexdigest())
        for algorithm, blob in lines
    )
