"""What the service does all day, in one short run: every native library, the database, sockets and a child process."""

import asyncio
import sqlite3
import sys
import tempfile
from pathlib import Path

import cedarpy
import orjson
from aiohttp import ClientSession, web
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel


class Model(BaseModel):
    value: int


def ask_cedar() -> None:
    request = {"principal": 'User::"a"', "action": 'Action::"b"', "resource": 'Instance::"c"', "context": {}}
    answer = cedarpy.is_authorized(request, "permit(principal, action, resource);", [])
    assert answer.allowed


def do_cryptography() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    sealed = key.public_key().encrypt(b"password", padding.PKCS1v15())
    assert key.decrypt(sealed, padding.PKCS1v15()) == b"password"
    AESGCM(AESGCM.generate_key(256)).encrypt(bytes(12), b"key", None)
    ed25519.Ed25519PrivateKey.generate().sign(b"checkpoint")


def write_the_log(folder: Path) -> None:
    connection = sqlite3.connect(folder / "audit.db")
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t(a); INSERT INTO t VALUES(1);"
    )
    connection.close()


async def serve_and_ask() -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(Model(value=1).model_dump()))

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    async with ClientSession() as session, session.get(f"http://{host}:{port}/") as answer:
        assert await answer.json(content_type=None) == {"value": 1}
    await runner.cleanup()


async def start_a_child() -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "import resource; resource.setrlimit(4, (0, 0))")
    assert await child.wait() == 0


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_the_log(Path(folder))
    ask_cedar()
    await asyncio.to_thread(do_cryptography)
    await serve_and_ask()
    await start_a_child()


asyncio.run(main())
