"""Where the broker's own AWS credentials come from: a source of a role's, beside the usual chain of the SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from broker.errors import BrokerError, UpstreamUnavailable
from broker.lightsail.gateway import Gateway
from broker.lightsail.session import Tuning
from broker.model import utc_now
from tests.doubles.lightsail import QUICK, WilfulAws, account, body
from tests.end_to_end.places import eventually

PLACE = ("main", "eu-west-1")


@dataclass
class Source:
    """Gives a container's credentials, as ECS and EKS do, until `until`."""

    until: datetime = field(default_factory=lambda: utc_now() + timedelta(hours=1))
    asked: int = 0
    trouble: str = ""

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self.trouble == "hangs":
            await asyncio.sleep(30)
        if self.trouble:
            raise web.HTTPInternalServerError
        keys = {"AccessKeyId": f"AKID{self.asked}", "SecretAccessKey": "secret", "Token": "token"}
        return web.json_response(keys | {"Expiration": self.until.strftime("%Y-%m-%dT%H:%M:%SZ")})


@pytest.fixture(autouse=True)
def no_static_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")


@pytest.fixture
async def source(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Source]:
    source, application = Source(), web.Application()
    application.router.add_get("/keys", source.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{runner.addresses[0][1]}/keys")
    yield source
    await runner.cleanup()


async def crowd(gateway: Gateway) -> set[str]:
    """Ask twenty times at once; answer what came of it."""

    async def one() -> str:
        try:
            await gateway.instances(*PLACE)
        except BrokerError as failure:
            return failure.code
        return "ok"

    return set(await asyncio.gather(*(one() for _ in range(20))))


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
async def test_while_their_source_is_away_credentials_serve_to_their_end(
    source: Source, aws: WilfulAws, trouble: str
) -> None:
    aws.will_answer(body({"instances": []}))
    passed = timedelta()
    quick = Tuning(deadline=3.0, connect_timeout=1.5, read_timeout=1.5)
    async with Gateway([account(aws.url)], quick, lambda: utc_now() + passed) as gateway:
        assert await crowd(gateway) == {"ok"}
        assert source.asked == 1
        source.trouble = trouble
        for minutes in (46, 52, 58):  # behind the scenes it is tried, and nobody waits for that
            passed = timedelta(minutes=minutes)
            assert await crowd(gateway) == {"ok"}
            await asyncio.sleep(0.05)
        passed = timedelta(minutes=61)
        assert await crowd(gateway) == {"upstream_unavailable"}
        asked = source.asked
        assert await crowd(gateway) == {"upstream_unavailable"}
        assert source.asked == asked
        source.trouble, source.until = "", utc_now() + timedelta(hours=3)
        passed += timedelta(seconds=6)

        async def all_is_well() -> bool:
            return await crowd(gateway) == {"ok"}

        await eventually(all_is_well)  # the breaker of the region lets one try after five seconds
    assert {request["Authorization"].split("/")[0].rpartition("=")[2] for request in aws.requests} == {
        "AKID1",
        f"AKID{source.asked}",
    }


async def test_credentials_are_renewed_before_their_end(source: Source, aws: WilfulAws) -> None:
    aws.will_answer(body({"instances": []}))
    passed = timedelta()
    async with Gateway([account(aws.url)], QUICK, lambda: utc_now() + passed) as gateway:
        assert await crowd(gateway) == {"ok"}
        passed, source.until = timedelta(minutes=46), utc_now() + timedelta(hours=2)
        assert await crowd(gateway) == {"ok"}
        await asyncio.sleep(0.2)
        assert await crowd(gateway) == {"ok"}
    assert source.asked == 2
    assert "AKID2" in aws.requests[-1]["Authorization"]


async def test_a_web_identity_is_not_told_to_an_address_of_the_environment(
    aws: WilfulAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trap = WilfulAws()
    await trap.start()
    trap.will_answer(body({}, 500))
    (tmp_path / "token").write_text("a-token-of-kubernetes")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/broker")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "nowhere-1")  # no such STS
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, trap.url)
    async with Gateway([account(aws.url)], QUICK) as gateway:
        with pytest.raises(UpstreamUnavailable, match="loading AWS credentials"):
            await gateway.instances(*PLACE)
    assert trap.requests == []
    await trap.stop()
