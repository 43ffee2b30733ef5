"""Where a log is kept, as one URL: `sqlite:///PATH` or `postgresql://USER@HOST/NAME`. Pure, standard library only.

A URL of PostgreSQL is one of libpq, with `sslmode` and the like. It holds no password: the URL stands in a file that
people pass on. PGPASSWORD or a password file (PGPASSFILE, or ~/.pgpass) hold it, as for every client of PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

SQLITE = "sqlite:///"
POSTGRESQL = "postgresql://"
_CACHE = "statement_cache_size"


def sqlite_path(database: str) -> Path | None:
    """Answer the file of a SQLite log; None for a log that is kept elsewhere."""
    return Path(database.removeprefix(SQLITE)) if database.startswith(SQLITE) else None


def objection(database: str) -> str:
    """Say why this cannot be the place of a log; empty when it can. Never repeats what may hold a password."""
    if database.startswith(SQLITE):
        return ""
    if not database.startswith(POSTGRESQL):
        return "use sqlite:///PATH or postgresql://USER@HOST/NAME"
    try:
        Address.parse(database)
    except ValueError as problem:
        return str(problem)
    return ""


@dataclass(frozen=True, slots=True)
class Address:
    """A database of PostgreSQL. `statement_cache_size` is 0 behind a pooler that does not know prepared statements."""

    url: str
    statement_cache_size: int = 100

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read and check a URL.

        Raises:
            ValueError: with what is wrong, without the URL.
        """
        parts = urlsplit(text)
        options = dict(parse_qsl(parts.query))
        _check(parts, options)
        cache = options.pop(_CACHE, "100")
        if not cache.isdecimal():
            raise ValueError(f"{_CACHE} is a whole number")
        return cls(urlunsplit(parts._replace(query=urlencode(options))), int(cache))

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{POSTGRESQL}{parts.netloc}{parts.path}"


def _check(parts: SplitResult, options: Mapping[str, str]) -> None:
    if parts.password is not None or "password" in options:
        raise ValueError("keep the password out of the URL: PGPASSWORD or a password file (PGPASSFILE) holds it")
    if not parts.path.strip("/") and "dbname" not in options:
        raise ValueError("name the database: postgresql://USER@HOST/NAME")
    if "sslmode" not in options and not all(map(_is_here, _hosts(parts, options))):
        raise ValueError("say how the connection is protected: ?sslmode=verify-full, or what else you mean")


def _hosts(parts: SplitResult, options: Mapping[str, str]) -> list[str]:
    """Answer every host: a URL of libpq may name several, of which one is the primary."""
    named = parts.netloc.rpartition("@")[2] or options.get("host", "")
    return [urlsplit(f"//{each}").hostname or each for each in named.split(",")]


def _is_here(host: str) -> bool:
    """Tell whether a host is this machine: a folder of sockets, or a loopback address."""
    if not host or host.startswith("/") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
