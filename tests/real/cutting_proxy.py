"""A TCP proxy before PostgreSQL that loses the connection at a COMMIT: before it arrives, or before it is answered."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Literal, Self

_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
Place = Literal["", "before", "after", "silence"]


class CuttingProxy:
    """Forwards to a loopback port. `cut` says where the next COMMIT loses its connection, and is used up by it.

    With `silence` the server gets the COMMIT, and the client never hears of it again, nor of the end of the connection.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.cut: Place = ""
        self.cuts = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]  # any callable
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self._open += [client, server]
                answers = threading.Event()
                answers.set()
                self._start(self._forward, client, server, answers)
                self._start(self._answer, client, server, answers)

    def _forward(self, client: socket.socket, server: socket.socket, answers: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if data.endswith(_COMMIT) and self.cut:
                    place, self.cut = self.cut, ""
                    self.cuts += 1
                    answers.clear()
                    if place != "before":
                        server.sendall(data)
                    if place == "silence":
                        return
                    self._wait_for_the_end(server, place)
                    break
                server.sendall(data)
        _close(client, server)

    @staticmethod
    def _wait_for_the_end(server: socket.socket, place: Place) -> None:
        if place == "after":
            server.recv(65536)  # it has committed

    @staticmethod
    def _answer(client: socket.socket, server: socket.socket, answers: threading.Event) -> None:
        with suppress(OSError):
            while answers.is_set() and server.recv(1, socket.MSG_PEEK):
                if not answers.is_set():
                    return
                client.sendall(server.recv(65536))


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
