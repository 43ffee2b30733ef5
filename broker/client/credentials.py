"""Access tokens, and where they come from: the environment, a file, a login, the platform of a workload."""

from __future__ import annotations

import re

from broker.client.errors import Misconfigured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from broker.client.proofs import ProofKey

    class TokenSource(Protocol):
        """Answers tokens; asked for every request, so that a renewed one is used at once."""

        remedy: str
        """What its owner does about a token that is not taken, as an imperative."""

        def current(self) -> Token:
            """Answer a token that should be taken now; renews what is about to expire. Raises a ClientError."""
            ...

        def renewed(self, refused: Token) -> Token | None:
            """Answer another one than the one that the service has just refused; None when there is none."""
            ...


BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""What an access token looks like (RFC 6750, section 2.1)."""
_TOKEN_LIMIT = 64 * 1024


class Token:
    """An access token, and the key that it is bound to when it has to be proved (DPoP)."""

    __slots__ = ("key", "text")

    def __init__(self, text: str, key: ProofKey | None = None) -> None:
        self.text = text
        self.key = key

    def __repr__(self) -> str:
        return "Token(***)"


class FixedToken:
    """A token that does not change, such as that of `BROKER_TOKEN`."""

    def __init__(self, text: str, source: str, key: ProofKey | None = None) -> None:
        self.remedy = f"get a new token and put it into {source}"
        self._token = Token(checked(text, source), key)

    def current(self) -> Token:
        """Answer it."""
        return self._token

    def renewed(self, refused: Token) -> Token | None:
        """There is no other."""
        del refused
        return None


class TokenFile:
    """A file with a token that something else renews, such as Kubernetes; read for every request."""

    def __init__(self, path: str, key: ProofKey | None = None) -> None:
        self._path = path
        self._key = key
        self._named = f"BROKER_TOKEN_FILE ({path})"
        self.remedy = f"get a new token and put it into {self._named}"

    def current(self) -> Token:
        """Answer what stands in the file now."""
        return Token(checked(self._read(), self._named), self._key)

    def renewed(self, refused: Token) -> Token | None:
        """Answer another one when the file was renewed meanwhile."""
        token = self.current()
        return None if token.text == refused.text else token

    def _read(self) -> str:
        try:
            with open(self._path, encoding="ascii") as file:  # noqa: PTH123  # pathlib alone costs a call five milliseconds
                return file.read(_TOKEN_LIMIT)
        except OSError as error:
            raise Misconfigured(f"{self._named} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            return ""


def checked(text: str, source: str) -> str:
    """Answer the token; refuse what cannot be one, without repeating it, before it reaches a header."""
    token = text.strip()
    if not BEARER.fullmatch(token):
        raise Misconfigured(f"{source} does not hold an access token")
    return token
