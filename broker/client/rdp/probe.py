"""Who answers at an RDP port: the first two steps of a connection, in which no name and no password is sent.

A client asks by X.224 which security the server speaks ([MS-RDPBCGR] 2.2.1.1 and 2.2.1.2), then TLS begins, and the
server shows its certificate. With Network Level Authentication (PROTOCOL_HYBRID) the password is proved within that
TLS by CredSSP ([MS-CSSP]), bound to the certificate; without it, a password would be typed into whatever answers.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
import time
from dataclasses import dataclass

from broker.client.errors import ClientError, NotReady, Untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_SECONDS = 5.0
_PAUSE_SECONDS = 2.0
_REPEAT_SECONDS = 20.0

_SSL, _HYBRID = 0x1, 0x2
_REQUEST = struct.pack(">BBHBBHHB", 3, 0, 19, 14, 0xE0, 0, 0, 0) + struct.pack("<BBHI", 1, 0, 8, _SSL | _HYBRID)
"""TPKT (RFC 1006), X.224 Connection Request, RDP_NEG_REQ."""

_TPKT_VERSION, _CONFIRM = 3, 0xD0
_SHORTEST, _WITH_NEGOTIATION, _LONGEST = 11, 19, 512
_RESPONSE = 2


class NoAnswer(NotReady):
    """Nobody takes the connection, or it ends without a word: an instance that boots does so."""


class NotRdp(ClientError):
    """Something else than RDP answers there."""


class NoNetworkLevelAuthentication(Untrusted):
    """The server does not authenticate before a session begins."""


@dataclass(frozen=True)
class Found:
    """Who answers: `certificate_sha256` in lower-case hex, "" where no TLS is spoken; `nla` when it is offered."""

    certificate_sha256: str
    nla: bool


def probe(host: str, port: int, timeout: float = PROBE_SECONDS) -> Found:
    """Ask an RDP server for its certificate. Nothing about the caller is sent.

    Args:
        host: a name, an IPv4 or an IPv6 address without brackets.
        port: of TCP.
        timeout: seconds for each step: connecting, the answer, TLS.

    Raises:
        NoAnswer: the port is closed, nothing comes, or the connection ends; later it may be there.
        NotRdp: what comes is not RDP.
    """
    where = f"{host} port {port}"
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.sendall(_REQUEST)
            chosen = _chosen(_confirmation(connection, time.monotonic() + timeout, where), where)
            if not chosen & (_SSL | _HYBRID):
                return Found("", nla=False)
            return Found(_certificate(connection), nla=bool(chosen & _HYBRID))
    except ssl.SSLError as error:
        raise NotRdp(
            f"{where} speaks RDP, but no TLS that this machine takes ({error.reason or 'handshake'})"
        ) from error
    except TimeoutError as error:
        raise NoAnswer(f"{where}: no answer") from error
    except OSError as error:
        raise NoAnswer(f"{where}: {(error.strerror or 'no connection').lower()}") from error


def await_answer(
    host: str,
    port: int,
    seconds: float,
    notice: Callable[[str], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Probe until a server with Network Level Authentication answers.

    Raises:
        NoAnswer: nobody does within so many seconds.
        NotRdp, NoNetworkLevelAuthentication: who does is not to be given a password; waiting does not help.
    """
    deadline, said_at = clock() + seconds, clock() - _REPEAT_SECONDS
    while True:
        try:
            found = probe(host, port)
        except NoAnswer as error:
            left = deadline - clock()
            if left <= 0:
                raise NoAnswer(
                    f"{error}; it may be booting, or its firewall closes the port: --wait TIME waits"
                ) from error
            if clock() - said_at >= _REPEAT_SECONDS:
                notice(f"{error}; waiting for it, {int(left)} s at most")
                said_at = clock()
            sleep(min(_PAUSE_SECONDS, left))
        else:
            if found.nla:
                return found
            raise NoNetworkLevelAuthentication(
                f"{host} port {port} does not offer Network Level Authentication, so whoever answers there would get "
                "the password. Nothing was sent; switch it on in Windows (System Properties, Remote)"
            )


def _confirmation(connection: socket.socket, deadline: float, where: str) -> bytes:
    """Read one TPKT."""
    head = _exactly(connection, 4, deadline, where)
    version, _, length = struct.unpack(">BBH", head)
    if version != _TPKT_VERSION or not _SHORTEST <= length <= _LONGEST:
        raise NotRdp(f"something else than RDP answers at {where}; does the tag `rdp-port` of the instance say so?")
    return head + _exactly(connection, length - len(head), deadline, where)


def _exactly(connection: socket.socket, count: int, deadline: float, where: str) -> bytes:
    found = b""
    while len(found) < count:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        chunk = connection.recv(count - len(found))
        if not chunk:
            raise NoAnswer(f"{where}: the connection was closed without an answer")
        found += chunk
    return found


def _chosen(packet: bytes, where: str) -> int:
    """Answer the protocol that the server chose; 0 for its own encryption, which has no certificate to trust."""
    if packet[5] & 0xF0 != _CONFIRM:
        raise NotRdp(f"something else than RDP answers at {where}")
    if len(packet) < _WITH_NEGOTIATION or packet[11] != _RESPONSE:
        return 0  # no negotiation at all, or RDP_NEG_FAILURE: it would have none of what was asked for
    (protocol,) = struct.unpack_from("<I", packet, 15)
    return int(protocol)


def _certificate(connection: socket.socket) -> str:
    """Begin TLS; answer the fingerprint. It is self-signed: whether it is the right one is for the pins to say."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with context.wrap_socket(connection) as secured:
        return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
