from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tomllib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.emulator import Emulator, Fixture
from broker.emulator.callers import utc_now
from broker.emulator.calls import Call, new_call_list
from broker.settings.sections import Account
from tests.emulator.clients import lightsail


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])  # noqa: S104 - that it is refused
async def test_it_listens_on_loopback_only(company: Mapping[str, Any], tmp_path: Path, host: str) -> None:
    emulator = Emulator(Fixture.of(company, tmp_path))
    with pytest.raises(ValueError, match="loopback"):
        await emulator.start(host)


@pytest.mark.parametrize(("host", "begins"), [("localhost", "http://127.0.0.1:"), ("127.0.0.2", "http://127.0.0.2:")])
async def test_any_loopback_address_will_do(company: Mapping[str, Any], tmp_path: Path, host: str, begins: str) -> None:
    emulator = Emulator(Fixture.of(company, tmp_path))
    await emulator.start(host)
    try:
        assert emulator.url.startswith(begins)
        async with lightsail(emulator) as client:
            assert (await client.get_instances())["instances"]
    finally:
        await emulator.stop()


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind(
    company: Mapping[str, Any], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        emulator = Emulator(Fixture.of(company, tmp_path))
        with pytest.raises(OSError, match="address already in use"):
            await emulator.start(port=taken.getsockname()[1])
    assert emulator.calls == ()


async def test_a_stopped_emulator_does_not_answer(company: Mapping[str, Any], tmp_path: Path) -> None:
    async with Emulator(Fixture.of(company, tmp_path)) as emulator:
        pass
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get(f"{emulator.url}/_emulator/calls")


async def test_the_environment_is_all_that_a_client_needs(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    import aioboto3  # noqa: PLC0415 - after the environment is set

    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    async with aioboto3.Session(region_name="eu-west-1").client("sts") as client:
        assert (await client.get_caller_identity())["Account"] == "123456789012"


def test_only_so_many_calls_are_remembered() -> None:
    calls = new_call_list()
    for number in range(10_001):
        calls.append(Call(operation=str(number), instance=None, protocol=None, at=utc_now()))
    assert len(calls) == 10_000
    assert calls[0].operation == "1"


@contextlib.asynccontextmanager
async def command(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `broker emulator` and end it, whatever happens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "broker", "emulator", *words, stderr=asyncio.subprocess.PIPE, env=os.environ
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_serves_until_it_is_told_to_stop(
    company: Mapping[str, Any], tmp_path: Path, number: signal.Signals
) -> None:
    fixture = tmp_path / "lightsail.toml"
    fixture.write_text(
        f'ssh_ca = "{company["ssh_ca"]}"\n[[instances]]\nname = "web-1"\nregion = "eu-west-1"\n'
        'blueprint = "debian_12"\nbundle = "nano_3_0"\ntags = {env = "prod"}\n'
        '[[key_pairs]]\nname = "team-key"\nregion = "us-east-1"\nprivate_key = "team-key.pem"\n'
    )
    async with command("--listen", "127.0.0.1:0", "--fixture", str(fixture)) as process:
        assert process.stderr is not None
        shown = await asyncio.wait_for(process.stderr.readuntil(b"Ctrl-C"), 30)
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        rest = await process.stderr.read()
    text = shown.decode()
    assert "export AWS_ACCESS_KEY_ID=AKIDEMULATOR\n" in text
    assert "export AWS_SECRET_ACCESS_KEY=emulator-secret\n" in text
    assert "export AWS_ENDPOINT_URL=http://127.0.0.1:" in text
    assert "eu-west-1/web-1  debian_12" in text
    block = text.partition("[[accounts]]\n")[2].partition("\n\n")[0]
    account = Account.model_validate(tomllib.loads("\n".join(map(str.strip, block.splitlines()))))
    assert (account.name, account.regions) == ("main", ("eu-west-1", "us-east-1"))
    assert f"export AWS_ENDPOINT_URL={account.endpoint_url}\n" in text
    [shown_key] = [line.split() for line in text.splitlines() if "us-east-1/team-key" in line]
    assert shown_key[1] == str(tmp_path / "team-key.pem")
    assert (tmp_path / "team-key.pem").stat().st_size
    assert b"Traceback" not in rest


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--listen", "0.0.0.0:0"), "loopback addresses only"),
        (("--listen", "nonsense"), "ADDRESS:PORT"),
        (("--fixture", "missing.toml"), "cannot be read"),
    ],
)
async def test_the_command_says_what_is_wrong(words: tuple[str, ...], says: str) -> None:
    async with command(*words) as process:
        _, error = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert says in error.decode()
    assert "Traceback" not in error.decode()
