"""Known secrets go through every way to fail, and are found nowhere afterwards: in no log, number, file or answer."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.emulator import parse_faults
from tests.end_to_end.places import LINUX, WINDOWS, Place, Running, a_place, eventually

PASSWORD, DEFAULT_PASSWORD = "C4nary-of-Own-Key!", "C4nary-of-Default!"
INSTANCES = [
    {**LINUX, "name": "web-1"},
    {**LINUX, "name": "web-2"},
    {**WINDOWS, "name": "win-own", "key_pair": "team-key", "password": PASSWORD},
    {**WINDOWS, "name": "win-default", "password": DEFAULT_PASSWORD},
]
TEAM_KEY = ("team-key", "--account", "main", "--region", "eu-west-1", "--private-key", "team-key.pem")
FAULTS = ("throttle", "malformed", "drop", "status:500", "error:AccessDeniedException", "error:InternalFailure")
SETTINGS = """\
[console]
[[notify.webhooks]]
name = "pager"
url = "{url}"
secret = "file:pager.secret"
events = ["*"]
allow_private = true
"""


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=500)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", refuse)
    server = TestServer(application)
    await server.start_server()
    async with a_place(tmp_path, INSTANCES) as place:
        with (tmp_path / "broker.toml").open("a") as file:
            file.write(SETTINGS.format(url=server.make_url("/hook")))
        secret = tmp_path / "pager.secret"
        secret.touch(mode=0o600)
        secret.write_text("whsec_" + base64.b64encode(os.urandom(32)).decode())
        place.environment |= {
            "BROKER__LIMITS__PER_CALLER_PER_MINUTE": "1000",
            "BROKER__LIMITS__ISSUES_PER_CALLER_PER_MINUTE": "0",
            "BROKER__LIMITS__INSTANCES_PER_CALLER_PER_HOUR": "0",
        }
        yield place
    await server.close()


class Canaries:
    """The secrets of a run, and where they may not be."""

    def __init__(self, place: Place) -> None:
        pem = (place.folder / "team-key.pem").read_text()
        master = (place.folder / "state" / "master.key").read_bytes()
        webhook = (place.folder / "pager.secret").read_text().removeprefix("whsec_")
        self.secrets = [PASSWORD, DEFAULT_PASSWORD, webhook, master.decode("latin-1").strip(), *lines_of(pem)]
        self.answers: list[str] = []

    def add(self, document: Any) -> None:
        """Take the secrets out of a credential; what else is in it may hold none."""
        if "rdp" in document:
            self.secrets.append(document["rdp"].pop("password"))
        if "ssh" in document:
            self.secrets += lines_of(document["ssh"].pop("private_key"))
        self.answers.append(json.dumps(document))

    def found_in(self, content: bytes) -> list[str]:
        """Answer the first letters of every secret that is in there, in whatever spelling."""
        return [secret[:6] for secret in self.secrets if any(each in content for each in spellings(secret))]


def lines_of(pem: str) -> list[str]:
    """Answer the lines of a PEM that no other key has."""
    return [line for line in pem.splitlines() if "-----" not in line][1:-1]


def spellings(secret: str) -> set[bytes]:
    raw = secret.encode("latin-1")
    once = base64.b64encode(raw)
    return {raw, once, raw.hex().encode(), base64.b64encode(once), quote(secret, safe="").encode()}


async def present_badly(service: Running, token: str) -> Sequence[str]:
    """Bring a good token in every wrong way, and a forged one in the right way."""
    head, body, signature = token.split(".")
    forged = f"{head}.{body}.{signature[::-1]}"
    ways: list[tuple[str, dict[str, str], Any]] = [
        ("/v1/credentials", {"Authorization": f"Bearer {forged}"}, {"instance": "web-1"}),
        ("/v1/credentials", {"Authorization": f"Basic {token}"}, {"instance": "web-1"}),
        ("/v1/credentials", {"Authorization": f"Bearer {token}, Bearer {token}"}, {"instance": "web-1"}),
        ("/v1/credentials", {"Authorization": f"DPoP {token}", "DPoP": token}, {"instance": "web-1"}),
        (f"/v1/credentials?access_token={token}", {}, {"instance": "web-1"}),
        (f"/v1/{token}", {}, {"instance": "web-1"}),
        ("/v1/credentials", {"Cookie": f"__Host-broker-console={token}"}, {"access_token": token}),
        ("/console", {"Cookie": f"__Host-broker-console={token}"}, None),
        ("/v1/credentials", {"Authorization": f"Bearer {token}"}, {"instance": "web-1", "token": token}),
        ("/v1/credentials", {"Authorization": f"Bearer {token}"}, {"instance": ["web-1", token]}),
        ("/v1/credentials", {"Authorization": f"Bearer {token}", "Content-Encoding": token}, {"instance": "web-1"}),
        ("/v1/credentials", {"Authorization": f"Bearer {token}", "Content-Type": token}, {"instance": "web-1"}),
    ]
    answers = []
    for path, sent, document in ways:
        method = "GET" if document is None else "POST"
        data = None if document is None else json.dumps(document)
        headers = {"Content-Type": "application/json", **sent}
        async with service.session.request(method, service.url + path, data=data, headers=headers) as response:
            answers.append(f"{response.status} {response.headers} {await response.text()}")
            assert response.status >= 400 or path == "/console", answers[-1]
    return answers


async def fail_at_aws(place: Place, service: Running, canaries: Canaries) -> None:
    """Let every kind of fault happen to every kind of credential."""
    for kind in FAULTS:
        for name in ("web-1", "win-own", "win-default"):
            fault = {"operation": "GetInstanceAccessDetails", "instance": name, "kind": kind, "times": 3}
            place.emulator.faults.add(parse_faults([fault]))
        for name in ("web-1", "win-own", "win-default"):
            canaries.add((await service.issue(name))[1])
        place.emulator.faults.clear()

        async def is_back() -> bool:
            status, document = await service.issue("web-2")
            canaries.add(document)
            return status == 201

        await eventually(is_back)


async def test_no_secret_of_a_failure_is_anywhere(place: Place) -> None:
    canaries = Canaries(place)
    canaries.secrets += [place.token, place.token.rpartition(".")[2]]
    logs = b""
    async with place.serving() as service:
        for name in ("win-own", "win-default", "web-1"):  # the key of the first is not held yet
            canaries.add((await service.issue(name))[1])
        added = await place.broker("keys", "add", *TEAM_KEY)
        assert added.code == 0, added.err
        status, document = await service.issue("win-own")
        assert (status, document["rdp"]["password"]) == (201, PASSWORD)
        canaries.add(document)
        canaries.answers += await present_badly(service, place.token)
        await fail_at_aws(place, service, canaries)
        link = await place.broker("console-link", "--as", "corp/alice", "--group", "auditors")
        assert link.code == 0, link.err
        [code] = re.findall(r"[A-Za-z0-9_-]{40,}", link.out)
        canaries.secrets.append(code)
        async with service.session.get(f"{service.url}/console/sign-in?code={code}x") as response:
            canaries.answers.append(await response.text())
        for path in ("/metrics", "/readyz", "/v1/audit/events?limit=500", "/openapi.json", "/v1/nowhere"):
            canaries.answers.append(json.dumps((await service.ask(path))[1]))
        await service.stop()
        logs += place.log.encode()
    async with place.serving("prlimit", f"--fsize={1 << 20}") as service:  # the disk is full soon
        async with asyncio.timeout(60):
            while True:
                status, document = await service.issue("win-own")
                canaries.add(document)
                if document.get("code") == "audit_unavailable":
                    break
                assert status == 201, document
        service.process.kill()
        await service.process.wait()
        logs += place.log.encode()
    exported = place.folder / "export.jsonl"
    assert (await place.broker("audit", "export", "--output", str(exported))).code == 0

    assert len(canaries.secrets) > 100
    assert canaries.found_in(logs) == []
    assert canaries.found_in("\n".join(canaries.answers).encode()) == []
    looked_at = {}
    for file in (exported, *(place.folder / "state").rglob("*")):
        if file.is_file() and file.name != "master.key":
            looked_at[file.name] = canaries.found_in(file.read_bytes())
    assert {"audit.db", "audit.db-wal", "export.jsonl"} <= set(looked_at)
    assert {name: found for name, found in looked_at.items() if found} == {}
    assert b"PRIVATE KEY" not in logs
    assert canaries.found_in((place.folder / "team-key.pem").read_bytes()) != []  # the search finds what is there
