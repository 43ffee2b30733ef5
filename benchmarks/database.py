"""A PostgreSQL of its own for a measurement, from the binaries of this machine, on the disk that is measured."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import asyncpg

_FOLDERS = (*(Path(folder) for folder in os.get_exec_path()), *sorted(Path("/usr/lib/postgresql").glob("*/bin"))[::-1])
_INITDB = ("-U", "app", "-A", "trust", "--locale=C", "-E", "UTF8")
_SETTINGS = "listen_addresses = '127.0.0.1'\nmax_connections = 200\n"


def binaries() -> Path | None:
    """Answer the folder of `initdb` and `postgres`; Debian keeps them off PATH."""
    return next(
        (folder for folder in _FOLDERS if (folder / "initdb").exists() and (folder / "postgres").exists()), None
    )


@asynccontextmanager
async def postgresql() -> AsyncIterator[str]:
    """Run a server with the settings that it comes with, every sync included; answer the URL of an empty database."""
    there = binaries()
    assert there is not None, "there is no PostgreSQL (initdb, postgres) on this machine"
    user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="bench-pg-"))
    if user:
        shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)
    data, port = folder / "data", _free_port()
    initdb = [str(there / "initdb"), "-D", str(data), *_INITDB]
    try:
        await asyncio.to_thread(subprocess.run, initdb, check=True, capture_output=True, cwd="/", user=user)
        with (data / "postgresql.conf").open("a") as file:
            file.write(f"{_SETTINGS}unix_socket_directories = '{folder}'\nport = {port}\n")
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                there / "postgres", "-D", data, stdout=log, stderr=log, cwd="/", user=user
            )
        try:
            await _create(f"postgresql://app@127.0.0.1:{port}/postgres")
            yield f"postgresql://app@127.0.0.1:{port}/audit"
        finally:
            process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 5)
            if process.returncode is None:
                process.send_signal(2)  # whoever is still connected is sent away
                await process.wait()
    finally:
        shutil.rmtree(folder)


async def _create(url: str) -> None:
    async with asyncio.timeout(20):
        while True:
            with suppress(OSError, asyncpg.CannotConnectNowError):
                connection = await asyncpg.connect(url)
                break
            await asyncio.sleep(0.1)
    await connection.execute("CREATE DATABASE audit")
    await connection.close()


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
