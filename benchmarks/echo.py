"""The least that any such service costs: aiohttp over TLS that answers JSON with the same JSON.

`python -m benchmarks.echo FOLDER` serves with the certificate in a folder, prints its URL, and ends with its input.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path

from aiohttp import web


async def echo(request: web.Request) -> web.Response:
    """Answer what was sent."""
    return web.json_response(await request.json(), status=201)


async def main(folder: Path) -> None:
    """Serve until the parent closes our input."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    app = web.Application()
    app.router.add_post("/v1/credentials", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    sys.stdout.write(f"https://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
