"""Where to, as whom, and by which certificate the other side proves itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.client.errors import Unreachable
from broker.client.rdp.file import rdp_file
from broker.client.rdp.pins import pins_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from broker.client.documents import CredentialDocument


@dataclass(frozen=True)
class Session:
    """What a client has to know. `pins` are SHA-256 in lower-case hex."""

    host: str
    port: int
    username: str
    password: str = field(repr=False)
    pins: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse what could end its line, and so begin another argument."""
        for what in ("host", "username", "password"):
            value = getattr(self, what)
            if not (value and value.isascii() and value.isprintable()):
                raise Unreachable(f"the service answered a {what} that cannot be handed to a client")

    @classmethod
    def of(cls, credential: CredentialDocument) -> Self:
        """Take what a credential says.

        Raises:
            CertificateUnknown: AWS knows no certificate of the instance yet.
            ClientError: something in it cannot be used.
        """
        rdp = credential["rdp"]
        pins = pins_of(rdp["certificate_sha256"])
        host, port, username = credential["host"], credential["port"], credential["username"]
        return cls(host, port, username, rdp["password"], pins)

    @property
    def rdp_file(self) -> str:
        """A `.rdp` file without a password, for clients that read one.

        Made here and not taken from the service: such a file can also name programs to start and drives to share.
        """
        return rdp_file(self.host, self.port, self.username)

    @property
    def bracketed(self) -> str:
        """The host as it stands before a port: an IPv6 address is put in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def address(self) -> str:
        """Host and port in one."""
        return f"{self.bracketed}:{self.port}"
