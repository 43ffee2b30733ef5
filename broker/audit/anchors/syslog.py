"""An anchor that is a syslog: one line for each checkpoint (RFC 5424). It cannot be read back from here."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from broker.audit.anchors.notes import line_of
from broker.audit.anchors.places import AnchorFailed
from broker.model import Clock, rfc3339

_PRIORITY: Final = 10 * 8 + 5
"""Facility authpriv, severity notice."""
_PORTS: Final = {"udp": 514, "tcp": 601}


class SyslogAnchor:
    """Sends lines to `/dev/log` or another socket of this machine, `udp://host:514` or `tcp://host:601`.

    Over UDP nobody knows whether a line arrived. Over TCP it is counted octets (RFC 6587), and the other side must
    close the connection after it has read them.
    """

    def __init__(self, address: str, clock: Clock, hostname: Callable[[], str] = socket.gethostname) -> None:
        self._address = address
        self._clock = clock
        self._hostname = hostname

    async def newest(self) -> None:
        """Answer that nothing can be read back."""
        return

    async def add(self, size: int, note: str, after: int) -> None:
        """Send a note as one line.

        Raises:
            AnchorFailed: the receiver closed the connection before it had read the line.
            OSError: nobody is there.
        """
        del size, after
        line = self._line(note)
        kind, host, port = _parts(self._address)
        if kind == "tcp":
            await _send_stream(host, port, f"{len(line)} ".encode() + line)
        elif kind == "udp":
            await _send_datagram(host, port, line)
        else:
            await _send_local(self._address, line)

    def _line(self, note: str) -> bytes:
        header = f"<{_PRIORITY}>1 {rfc3339(self._clock())} {self._hostname() or '-'} lightsail-broker {os.getpid()}"
        return f"{header} checkpoint - {line_of(note)}".encode()


def _parts(address: str) -> tuple[str, str, int]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


async def _send_stream(host: str, port: int, data: bytes) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(data)
        await writer.drain()
        writer.write_eof()
        while await reader.read(4096):
            pass  # nobody answers on a syslog connection; its end says that the line was read
    except ConnectionError as problem:
        raise AnchorFailed("the connection was reset") from problem
    finally:
        writer.transport.abort()


async def _send_datagram(host: str, port: int, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as sender:
        sender.settimeout(0)
        await loop.sock_sendto(sender, data, address)


async def _send_local(path: str, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(0)
        await loop.sock_connect(sender, path)
        await loop.sock_sendall(sender, data)
