"""Where the keys of an issuer come from: a file, a URI, or OpenID Connect discovery (I/O)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from broker.identity.fetching import Fetched, FetchFailed, fetch, origin
from broker.identity.keys import MAX_KEY_SET
from broker.identity.strictjson import NotStrictJson, parse_object

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import aiohttp

    from broker.identity.issuers import Issuer

_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_MAX_DEPTH: Final = 16


class KeySource(Protocol):
    """Brings the bytes of a JWK Set."""

    async def load(self) -> Fetched:
        """Answer the document as it is now, or raise FetchFailed."""
        ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file on this machine, read anew each time: replacing it is all that a rotation needs."""

    path: Path

    async def load(self) -> Fetched:
        """Read the file outside the event loop."""
        try:
            return Fetched(await asyncio.to_thread(self._read), None)
        except OSError as problem:
            raise FetchFailed(f"{self.path.name}: {problem.strerror}") from problem

    def _read(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(MAX_KEY_SET + 1)


@dataclass(frozen=True, slots=True)
class UriSource:
    """A URI that serves the key set."""

    uri: str
    session: Callable[[], aiohttp.ClientSession]

    async def load(self) -> Fetched:
        """Fetch the key set."""
        return await fetch(self.session(), self.uri)


@dataclass(frozen=True, slots=True)
class DiscoverySource:
    """An issuer whose metadata say where the key set is (OpenID Connect Discovery 1.0, section 4).

    The document must name the issuer byte for byte, and its `jwks_uri` must be at the issuer's own scheme, host and
    port: a document that points elsewhere could hand the issuer's voice to somebody else. For issuers that do keep
    their keys on another host, that URI belongs into the settings as `jwks_uri`.
    """

    issuer: str
    session: Callable[[], aiohttp.ClientSession]

    async def load(self) -> Fetched:
        """Fetch the metadata, then the key set."""
        metadata = await fetch(self.session(), self.issuer.removesuffix("/") + _WELL_KNOWN)
        return await fetch(self.session(), self._jwks_uri(metadata.body))

    def _jwks_uri(self, document: bytes) -> str:
        try:
            metadata = parse_object(document, max_depth=_MAX_DEPTH)
        except NotStrictJson:
            raise FetchFailed("discovery answered no strict JSON object") from None
        if metadata.get("issuer") != self.issuer:
            raise FetchFailed("discovery names another issuer")
        uri = metadata.get("jwks_uri")
        if not isinstance(uri, str) or origin(uri) != origin(self.issuer):
            raise FetchFailed("discovery points to another host; set jwks_uri if that is right")
        return uri


def key_source(issuer: Issuer, session: Callable[[], aiohttp.ClientSession]) -> KeySource:
    """Choose the source that the issuer's settings name."""
    if issuer.jwks_file is not None:
        return FileSource(issuer.jwks_file)
    if issuer.jwks_uri:
        return UriSource(issuer.jwks_uri, session)
    return DiscoverySource(issuer.issuer, session)
