"""A `.rdp` file, as mstsc and FreeRDP read it: where to and as whom, pinned settings, and never a password."""

from __future__ import annotations

from typing import Final

from broker.errors import UpstreamError

_PINNED: Final = (
    "prompt for credentials:i:1",
    "authentication level:i:2",  # warn when the server's certificate is not trusted
    "enablecredsspsupport:i:1",  # network level authentication: the password goes to nobody else
    "redirectclipboard:i:0",
    "drivestoredirect:s:",
    "redirectprinters:i:0",
    "redirectwebauthn:i:0",
)


def rdp_file(host: str, port: int, username: str) -> str:
    """Write the file: CRLF line ends, ASCII, the redirections of the visitor's machine switched off.

    Raises:
        UpstreamError: When a value could end its line and begin another.
    """
    for value in (host, username):
        if not value or not value.isascii() or not value.isprintable():
            raise UpstreamError(
                "a value does not fit in a line", detail="AWS answered with an odd address or user name."
            )
    # A bare IPv6 address would be cut at its last colon by FreeRDP.
    address = f"[{host}]:{port}" if ":" in host else host
    lines = (f"full address:s:{address}", f"server port:i:{port}", f"username:s:{username}", *_PINNED)
    return "".join(f"{line}\r\n" for line in lines)
