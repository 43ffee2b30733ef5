"""A client of ssh-agent: lists keys, adds one with its certificate for a limited time, removes one.

The protocol is draft-ietf-sshm-ssh-agent (draft-miller-ssh-agent), spoken over the Unix socket that `SSH_AUTH_SOCK`
names. The key goes from memory to memory: no file ever holds it.
"""

from __future__ import annotations

import socket
import struct
import time

from broker.client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

SECONDS = 5.0
"""For one exchange: an agent that wants to ask its owner first is too slow for us."""

_REQUEST_IDENTITIES, _IDENTITIES_ANSWER = 11, 12
_REMOVE_IDENTITY, _ADD_ID_CONSTRAINED = 18, 25
_SUCCESS = 6
_CONSTRAIN_LIFETIME = 1
_ANSWER_LIMIT = 256 * 1024  # what OpenSSH itself takes at most
_KEYS_LIMIT = 2048
_IMPOSTOR = "what answers there does not speak as an ssh-agent does"


class AgentUnusable(ClientError):
    """The agent cannot be reached, does not speak the protocol, or does not do what it is asked."""


class Agent:
    """An agent at a socket; connects at once.

    with Agent(os.environ["SSH_AUTH_SOCK"]) as agent:
        agent.add(identity(private_key, certificate), "broker web-1", seconds=780)
    """

    def __init__(self, path: str, *, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(seconds)
        try:
            self._socket.connect(path)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            self._socket.close()
            raise AgentUnusable(f"no ssh-agent answers at {path}: {_reason(error)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def identities(self) -> list[bytes]:
        """Answer the public blob of every key that it holds; of a certificate, the certificate."""
        kind, content = self._exchange(bytes([_REQUEST_IDENTITIES]))
        if kind != _IDENTITIES_ANSWER:
            raise AgentUnusable("the ssh-agent does not list its keys; is it locked?")
        try:
            return _blobs(Fields(content))
        except ValueError:
            raise AgentUnusable(_IMPOSTOR) from None

    def add(self, identity: bytes, comment: str, seconds: int) -> None:
        """Add a key (see `broker.client.keys.identity`) that the agent forgets after so many seconds."""
        constraint = struct.pack(">BI", _CONSTRAIN_LIFETIME, max(1, min(seconds, 0xFFFF_FFFF)))
        self._demand(
            bytes([_ADD_ID_CONSTRAINED]) + identity + string(comment.encode()) + constraint,
            "the ssh-agent does not take a key with a certificate and a lifetime",
        )

    def remove(self, blob: bytes) -> None:
        """Remove the key with this public blob."""
        self._demand(bytes([_REMOVE_IDENTITY]) + string(blob), "the ssh-agent does not remove the key")

    def _demand(self, request: bytes, complaint: str) -> None:
        kind, _ = self._exchange(request)
        if kind != _SUCCESS:
            raise AgentUnusable(complaint)

    def _exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send a message; answer the type and the content of the one that comes back."""
        deadline = self._clock() + self._seconds
        try:
            self._socket.settimeout(self._seconds)
            self._socket.sendall(string(request))
            (length,) = struct.unpack(">I", self._read(4, deadline))
            if not 0 < length <= _ANSWER_LIMIT:
                raise AgentUnusable(_IMPOSTOR)
            answer = self._read(length, deadline)
        except OSError as error:
            raise AgentUnusable(f"the ssh-agent does not answer: {_reason(error)}") from error
        return answer[0], answer[1:]

    def _read(self, count: int, deadline: float) -> bytes:
        content = b""
        while len(content) < count:
            left = deadline - self._clock()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            piece = self._socket.recv(count - len(content))
            if not piece:
                raise ConnectionResetError("it hung up")
            content += piece
        return content


class Fields:
    """Reads the fields of SSH's binary packing (RFC 4251, section 5) one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def number(self) -> int:
        """Answer a uint32; a ValueError where there is none."""
        value: int = struct.unpack(">I", self._take(4))[0]
        return value

    def string(self) -> bytes:
        """Answer a string; a ValueError where there is none."""
        return self._take(self.number())

    def _take(self, count: int) -> bytes:
        end = self._place + count
        if end > len(self._content):
            raise ValueError("cut short")
        taken, self._place = self._content[self._place : end], end
        return taken


def _blobs(fields: Fields) -> list[bytes]:
    found = []
    for _ in range(min(fields.number(), _KEYS_LIMIT)):
        found.append(fields.string())
        fields.string()  # the comment
    return found


def string(content: bytes) -> bytes:
    """Pack a string (RFC 4251, section 5)."""
    return struct.pack(">I", len(content)) + content


def mpint(value: int) -> bytes:
    """Pack a whole number that is not negative (RFC 4251, section 5)."""
    return string(value.to_bytes(value.bit_length() // 8 + 1) if value else b"")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (getattr(error, "strerror", None) or str(error)).lower()
