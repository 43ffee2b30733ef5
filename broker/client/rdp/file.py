"""A `.rdp` file, as mstsc, Remmina and FreeRDP read it: where to and as whom, and nothing of this machine shared."""

from __future__ import annotations

from broker.client.errors import Unreachable

_PINNED = (
    "prompt for credentials:i:1",
    "authentication level:i:2",  # warn when the server's certificate is not trusted
    "enablecredsspsupport:i:1",  # network level authentication: the password goes to nobody else
    "redirectclipboard:i:0",
    "drivestoredirect:s:",
    "redirectprinters:i:0",
    "redirectwebauthn:i:0",
)
_PORTS = range(1, 65536)


def rdp_file(host: str, port: int, username: str) -> str:
    """Write the file: CRLF line ends, ASCII.

    Raises:
        Unreachable: a value could end its line and begin another.
    """
    for value in (host, username):
        if not value or not value.isascii() or not value.isprintable():
            raise Unreachable("the service answered a host or a user name that cannot be handed to a client")
    if type(port) is not int or port not in _PORTS:
        raise Unreachable("the service answered a port that there is not")
    # A bare IPv6 address would be cut at its last colon by FreeRDP.
    address = f"[{host}]:{port}" if ":" in host else host
    lines = (f"full address:s:{address}", f"server port:i:{port}", f"username:s:{username}", *_PINNED)
    return "".join(f"{line}\r\n" for line in lines)
