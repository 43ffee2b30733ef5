"""A real PostgreSQL server, started for the tests from the binaries of this machine. Mark its users real("postgresql").

`BROKER_TEST_PG_DSN` names a server that is there already, for the tests that need a database and no more.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

_UNPRIVILEGED = "postgres", "nobody"
_HBA = """\
local all all trust
host all locked 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
"""
_SETTINGS = """\
listen_addresses = '127.0.0.1'
max_connections = 60
shared_buffers = 16MB
checkpoint_timeout = 1h
"""


def binaries() -> Path | None:
    """Answer the folder of `initdb` and `postgres`; Debian keeps them off PATH."""
    found = shutil.which("initdb")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in candidates if all((folder / name).exists() for name in _PROGRAMS)), None)


_PROGRAMS = ("initdb", "postgres")


def is_there() -> bool:
    """Tell whether there is PostgreSQL to test with."""
    return "BROKER_TEST_PG_DSN" in os.environ or binaries() is not None


class PostgresqlServer:
    """A server on a loopback port, in a folder of its own. It refuses to run as root, so another user runs it.

    With a `primary`, it is a standby of that.
    """

    def __init__(self, primary: PostgresqlServer | None = None) -> None:
        memory = Path("/dev/shm")  # noqa: S108 -- a folder of its own in it; tests cut no power, and a disk takes its time
        self.folder = Path(tempfile.mkdtemp(prefix="broker-pg-", dir=memory if os.access(memory, os.W_OK) else None))
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._names = count()
        self._user: dict[str, Any] = _another_user() if os.getuid() == 0 else {}
        folder = binaries()
        assert folder is not None
        self._binaries = folder
        if self._user:
            shutil.chown(self.folder, self._user["user"], self._user["group"])
        if primary is None:
            self._make("initdb", "-U", "app", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
            (self.data / "pg_hba.conf").write_text(_HBA)
            self.configure()
        else:
            conninfo = f"host=127.0.0.1 port={primary.port} user=app"
            self._make("pg_basebackup", "-d", conninfo, "-c", "fast", "--no-sync")
            (self.data / "standby.signal").touch()
            self.configure(primary_conninfo=conninfo)

    def _make(self, program: str, *options: str) -> None:
        command = [str(self._binaries / program), "-D", str(self.data), *options]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **self._user)

    @property
    def data(self) -> Path:
        """The folder of its files."""
        return self.folder / "data"

    def configure(self, **settings: str) -> None:
        """Set what differs from the usual; takes effect by `reload` or at the next start."""
        own = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        (self.data / "postgresql.auto.conf").write_text("")
        with (self.data / "postgresql.conf").open("w") as file:
            file.write(f"{_SETTINGS}unix_socket_directories = '{self.folder}'\nport = {self.port}\n{own}")

    def start(self) -> None:
        """Start, and wait until it answers."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if self._process is None or self._process.poll() is not None:  # what was killed may still hold its memory
                self._launch()
            with suppress(TimeoutError):
                self.execute("SELECT 1", patience=0.5)
                return
        raise AssertionError((self.folder / "log").read_text())

    def _launch(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.data], stdout=log, stderr=log, cwd="/", **self._user
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal: SIGHUP reloads, SIGINT stops at once, SIGQUIT stops without cleaning up."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop, and wait for it."""
        if self._process is not None:
            self.send(number)
            self._process.wait(30)
            self._process = None

    def alone(self, statement: str) -> None:
        """Run a statement while the server is stopped, in single-user mode, where nobody logs in."""
        command = [str(self._binaries / "postgres"), "--single", "-D", str(self.data), "postgres"]
        subprocess.run(command, input=statement.encode(), check=True, cwd="/", capture_output=True, **self._user)

    def remove(self) -> None:
        """Stop, and leave nothing."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def reload(self) -> None:
        """Take in changed settings: they hold for every session when this returns."""
        before = self.value("SELECT pg_conf_load_time()")
        self.send(signal.SIGHUP)
        while self.value("SELECT pg_conf_load_time()") == before:
            pass

    def url(self, database: str, user: str = "app", port: int | None = None) -> str:
        """Answer the URL of a database over TCP."""
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database and answer its URL."""
        name = f"audit{next(self._names)}"
        self.execute(f"CREATE DATABASE {name}", database="postgres")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, *statements: str, database: str = "postgres", patience: float = 5) -> None:
        """Run statements, each by itself."""
        run(self.url(database), *statements, patience=patience)

    def value(self, query: str) -> Any:
        """Answer one value."""
        return run(self.url("postgres"), query)


def run(url: str, *statements: str, patience: float = 5) -> Any:
    """Run statements in a database, each by itself; answer the first value of the last one."""
    with ThreadPoolExecutor(1) as thread:  # whoever calls may have a loop of his own
        return thread.submit(lambda: asyncio.run(_run(url, statements, patience))).result()


async def _run(url: str, statements: Sequence[str], patience: float) -> Any:
    connection = await _connect(url, patience)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


async def _connect(url: str, patience: float) -> asyncpg.Connection[asyncpg.Record]:
    async with asyncio.timeout(patience):
        while True:
            with suppress(OSError, asyncpg.CannotConnectNowError):
                return await asyncpg.connect(url)
            await asyncio.sleep(0.02)


def _another_user() -> dict[str, Any]:
    for name in _UNPRIVILEGED:
        with suppress(KeyError):
            return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}
    raise AssertionError("there is no user who may run PostgreSQL")


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class GivenServer:
    """A server that is there already: it gives databases, and takes no orders."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._names = count()

    def new_database(self) -> str:
        """Make an empty database and answer its URL."""
        name = f"broker_test_{os.getpid()}_{next(self._names)}"
        run(urlunsplit(self._parts), f"CREATE DATABASE {name}")
        return urlunsplit(self._parts._replace(path=f"/{name}"))

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        run(urlunsplit(self._parts), f"DROP DATABASE {urlsplit(url).path[1:]} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """Run a server for this session; whoever changes its settings puts them back."""
    server = PostgresqlServer()
    try:
        server.start()
        server.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgresql(request: pytest.FixtureRequest) -> Iterator[str]:
    """Answer the URL of an empty database."""
    given = os.environ.get("BROKER_TEST_PG_DSN")
    server = GivenServer(given) if given else request.getfixturevalue("postgresql_server")
    url = server.new_database()
    yield url
    server.drop(url)
