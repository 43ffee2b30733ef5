"""The service with a receiver: it is told what happens while the service runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from aiohttp import ClientSession

from broker import state, wiring
from broker.settings import load
from tests.doubles.outbound import SECRET, inbox, until

SETTINGS = """\
server.listen = "127.0.0.1:0"
audit.origin = "test.example/audit"
[[issuers]]
name = "corp"
issuer = "https://id.example.com"
audience = "lightsail-broker"
jwks_file = "jwks.json"
[[accounts]]
name = "main"
regions = ["eu-west-1"]
endpoint_url = "http://127.0.0.1:9"
[[notify.webhooks]]
name = "siem"
url = "{url}"
secret = "file:siem.secret"
events = ["policies.*", "service.*"]
allow_private = true
"""


def begun(database: Path) -> bool:
    """Tell whether the log knows how far the receiver has come."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT position FROM followers WHERE position > 0").fetchone() is not None


async def test_a_receiver_is_told_over_restarts_and_shows_in_the_readiness(tmp_path: Path) -> None:
    async with inbox() as site:
        (tmp_path / "broker.toml").write_text(SETTINGS.format(url=site.url))
        (tmp_path / "jwks.json").write_text('{"keys": []}')
        (tmp_path / "policies").mkdir()
        (tmp_path / "siem.secret").write_text(SECRET)
        (tmp_path / "siem.secret").chmod(0o600)
        settings = load(tmp_path / "broker.toml", {})
        list(state.create(settings))
        async with wiring.service(settings) as service, ClientSession() as session:
            async with session.get(f"{service.url}/readyz") as ready:
                components = (await ready.json())["components"]
            await until(lambda: begun(tmp_path / "state" / "audit.db"))
        async with wiring.service(settings):
            await until(lambda: len(site.taken) >= 3)
    said = [body["type"] for body in site.taken]
    assert said[-3:] == ["service.stopped", "service.started", "policies.loaded"]
    assert components["webhooks"] == {"ready": True, "detail": ""}
    assert site.indices == sorted(site.indices)
    assert len(set(site.ids)) == len(site.ids)
