"""The service as operators run it: created by init, looked at by check, started, signalled, killed, started again."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import ClientError, web
from aiohttp.test_utils import TestServer

from broker.emulator import parse_faults
from broker.observability.metrics import GAUGES
from broker.stages import STAGES
from tests.end_to_end.conftest import run_broker
from tests.end_to_end.places import LINUX, Place, a_place, eventually
from tests.observability.test_tracing import Collector

INSTANCES = [{**LINUX, "name": "web-1"}]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path, INSTANCES) as place:
        yield place


def slow(place: Place, seconds: str) -> None:
    """Let AWS take its time over the next access details."""
    fault = {"operation": "GetInstanceAccessDetails", "kind": f"delay:{seconds}", "times": 1}
    place.emulator.faults.add(parse_faults([fault]))


async def until_asked(place: Place) -> None:
    """Wait until AWS was asked for access details."""

    async def asked() -> bool:
        return any(call.operation == "GetInstanceAccessDetails" for call in place.emulator.calls)

    await eventually(asked)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_lets_the_running_request_end_and_seals_the_log(place: Place, number: signal.Signals) -> None:
    slow(place, "1s")
    async with place.serving() as service:
        running = asyncio.create_task(service.issue("web-1"))
        await until_asked(place)
        service.process.send_signal(number)
        status, document = await running
        assert status == 201
        assert await asyncio.wait_for(service.process.wait(), 15) == 0
    verified = await place.verify("--require-sealed")
    assert verified.code == 0, verified.out + verified.err
    events = await place.events()
    assert [event["event"] for event in events] == [
        *("service.started", "policies.loaded", "credential.requested", "credential.issued", "service.stopped"),
    ]
    assert events[document["audit"]["index"]]["lease_id"] == document["lease"]["id"]


async def test_the_next_start_goes_on_in_the_same_log(place: Place) -> None:
    indexes = []
    for _ in range(2):
        async with place.serving() as service:
            _, document = await service.issue("web-1")
            indexes.append(document["audit"]["index"])
            assert await service.stop() == 0
    assert indexes == [3, 8]
    starts = await place.events("--event", "service.started")
    assert [event["index"] for event in starts] == [0, 5]
    assert (await place.verify("--require-sealed")).code == 0


async def test_sighup_takes_in_the_policies_and_ends_nothing(place: Place) -> None:
    path = place.folder / "policies" / "all.cedar"
    before = path.read_text()
    async with place.serving() as service:

        async def is_ready() -> bool:
            return (await service.ask("/readyz"))[0] == 200

        async def is_refused() -> bool:
            status, _ = await service.issue("web-1")
            return status == 403

        async def is_not_ready() -> bool:
            status, _ = await service.ask("/readyz")
            return status == 503

        assert (await service.issue("web-1"))[0] == 201
        path.write_text('@id("none")\nforbid(principal, action, resource);\n')
        service.process.send_signal(signal.SIGHUP)
        await eventually(is_refused)
        path.write_text("permit(")
        service.process.send_signal(signal.SIGHUP)
        await eventually(is_not_ready)
        assert "the policies are broken, the old ones stay in force" in place.log
        assert (await service.issue("web-1"))[0] == 403
        path.write_text(before)
        service.process.send_signal(signal.SIGHUP)
        await eventually(is_ready)
        assert (await service.issue("web-1"))[0] == 201
        assert await service.stop() == 0
    first, second, third = [event["details"]["digest"] for event in await place.events("--event", "policies.loaded")]
    assert first == third != second
    issued = await place.events("--event", "credential.issued")
    assert {event["decision"]["digest"] for event in issued} == {first}
    told = [event["details"] for event in await place.events("--event", "policies.refused")]
    assert {(each["problems"], each["digest"]) for each in told} == {(1, second)}
    assert told[0]["first"][0].startswith("policies/all.cedar:1:") or told[0]["first"][0].startswith("all.cedar:1:")


async def test_a_stop_shows_before_it_happens_and_a_second_one_waits_for_nothing(place: Place) -> None:
    place.environment["BROKER__SERVER__LINGER"] = "20s"
    async with place.serving() as service:

        async def is_ready() -> bool:
            return (await service.ask("/readyz"))[0] == 200

        async def is_leaving() -> bool:
            return not await is_ready()

        await eventually(is_ready)
        service.process.send_signal(signal.SIGTERM)
        await eventually(is_leaving)
        assert (await service.issue("web-1"))[0] == 201  # whoever has not heard of it yet is served
        assert await service.stop() == -signal.SIGTERM
    place.environment["BROKER__SERVER__LINGER"] = "1s"
    async with place.serving() as service:
        assert await service.stop() == 0
    assert (await place.verify("--require-sealed")).code == 0
    starts = await place.events("--event", "service.started")
    assert max((event["index"], event["details"]["clean_stop"]) for event in starts)[1] is False


async def test_every_number_is_on_the_page_and_names_nobody(place: Place) -> None:
    async with place.serving() as service:
        assert (await service.issue("web-1"))[0] == 201
        async with service.session.get(f"{service.url}/metrics") as answer:
            page = await answer.text()
    for name in GAUGES:
        if name not in {"audit_anchor_late_seconds", "trace_spans_lost"}:  # there is no anchor and no collector
            assert re.search(rf"^broker_{name}(\{{.*\}})? ", page, re.MULTILINE), name
    for name in STAGES:
        if name != "unsealing":
            assert f'broker_stage_seconds_count{{stage="{name}"}}' in page, name
    assert 'broker_events_total{error="",event="credential.issued",outcome="success"} 1.0' in page
    assert 'broker_requests_total{code="",method="POST",route="/v1/credentials",status="201"} 1.0' in page
    assert "alice" not in page
    assert "web-1" not in page
    [line] = [json.loads(line) for line in place.log.splitlines() if '"/v1/credentials"' in line]
    assert {f"{stage}_milliseconds" for stage in STAGES if stage != "unsealing"} <= set(line)


async def test_a_kill_in_the_middle_of_issuing_is_closed_as_unknown_at_the_next_start(place: Place) -> None:
    slow(place, "20s")
    async with place.serving() as service:
        running = asyncio.create_task(service.issue("web-1"))
        await until_asked(place)
        assert await service.stop(signal.SIGKILL) == -signal.SIGKILL
        with pytest.raises(ClientError):
            await running
    assert (await place.verify()).code == 0
    async with place.serving() as service:
        assert (await service.issue("web-1"))[0] == 201
        assert await service.stop() == 0
    requested, _ = await place.events("--event", "credential.requested")
    (closed,) = await place.events("--event", "credential.failed")
    assert (closed["lease_id"], closed["request_id"]) == (requested["lease_id"], requested["request_id"])
    assert (closed["outcome"], closed["error"]) == ("unknown", "outcome_unknown")
    assert (closed["actor"]["subject"], closed["instance"]["name"]) == ("alice", "web-1")
    assert (await place.verify("--require-sealed")).code == 0


# -- what it does not start with


def lose(*names: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def write(name: str, text: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_text(text)

    return spoil


def open_to_others(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).chmod(0o644)

    return spoil


def another_tls_key(folder: Path) -> None:
    subprocess.run(
        ["openssl", "ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", folder / "tls.key"],
        check=True,
        capture_output=True,
    )


# What is wrong, the exit code, and what the one line must name.
SPOILT: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "no log": (lose("state/audit.db"), 7, "state/audit.db"),
    "a log that is none": (write("state/audit.db", "x" * 5000), 7, "not a database"),
    "no signing key": (lose("state/audit.key"), 7, "state/audit.key"),
    "a signing key open to others": (open_to_others("state/audit.key"), 7, "state/audit.key"),
    "no master key": (lose("state/master.key"), 7, "state/master.key"),
    "broken policies": (write("policies/broken.cedar", "permit("), 7, "broken.cedar"),
    "no TLS key": (lose("tls.key"), 2, "tls.key"),
    "a TLS key that is none": (write("tls.key", "x"), 2, "tls.key"),
    "another TLS key": (another_tls_key, 2, "tls.key"),
    "no settings": (lose("broker.toml"), 2, "broker.toml"),
    "settings that are no TOML": (write("broker.toml", "["), 2, "broker.toml"),
}


@pytest.mark.real("openssl")
@pytest.mark.parametrize(("spoil", "code", "named"), SPOILT.values(), ids=SPOILT.keys())
async def test_it_does_not_start_with(place: Place, spoil: Callable[[Path], None], code: int, named: str) -> None:
    spoil(place.folder)
    ran = await place.serve()
    said = [line for line in ran.err.splitlines() if line.startswith("broker: ")]
    assert (ran.code, len(said)) == (code, 1), ran.err
    assert named in said[0]
    assert "Traceback" not in ran.err
    assert ran.out == ""


async def test_it_does_not_start_with_a_variable_that_names_no_setting(place: Place) -> None:
    ran = await place.serve(BROKER__SERVER__LISTN="127.0.0.1:0", BROKER__LIMIT__X="1")
    assert (ran.code, ran.err.count("there is no such setting")) == (2, 2)
    assert "BROKER__SERVER__LISTN" in ran.err


async def test_it_does_not_start_beside_another_on_the_same_log(place: Place) -> None:
    async with place.serving() as service:
        ran = await place.serve()
        assert ran.code == 7
        assert ran.err == "broker: another broker process is writing this audit log; SQLite serves one\n"
        assert (await service.issue("web-1"))[0] == 201
        assert await service.stop() == 0
    assert (await place.verify("--require-sealed")).code == 0


async def test_it_does_not_start_on_an_address_that_is_taken(place: Place) -> None:
    async with place.serving() as service:
        listen = service.url.removeprefix("https://")
        state = {
            "BROKER__AUDIT__DATABASE": "sqlite:///other/audit.db",
            "BROKER__AUDIT__SIGNING_KEY": "file:other/audit.key",
        }
        assert (await place.broker("init", **state)).code == 0
        ran = await place.serve(BROKER__SERVER__LISTEN=listen, **state)
    assert ran.code == 2
    assert "Address already in use" in ran.err


# -- check and init


async def test_check_names_every_broken_component_at_once(place: Place) -> None:
    well = await place.broker("check")
    assert well.code == 0, well.out
    components = [line.split()[1] for line in well.out.splitlines()]
    assert components == [
        "settings",
        "parts",
        "audit",
        "anchors",
        "policies",
        "keys",
        "tls",
        "issuers",
        "lightsail",
        "webhooks",
    ]
    for spoil in (
        lose("state/audit.db", "state/audit.key", "state/master.key", "tls.key"),
        write("policies/broken.cedar", "permit("),
        write("jwks.json", "{}"),
    ):
        spoil(place.folder)
    broken = await place.broker("check", AWS_SECRET_ACCESS_KEY="wrong")
    assert broken.code == 1
    problems = [line.split()[1] for line in broken.out.splitlines() if line.startswith("PROBLEM")]
    assert set(problems) == {"audit", "policies", "keys", "tls", "issuers", "lightsail"}
    assert problems.count("audit") == 2
    assert broken.err == ""


async def test_check_shows_every_fault_of_the_settings(place: Place) -> None:
    found = await place.broker("check", BROKER__LIMITS__CONCURRENT_REQUESTS="0", BROKER__NOWHERE__X="1")
    assert found.code == 1
    assert len([line for line in found.out.splitlines() if line.startswith("PROBLEM  settings")]) == 2


async def test_check_changes_nothing_and_asks_for_no_credential(place: Place) -> None:
    before = contents(place.folder / "state")
    assert (await place.broker("check")).code == 0
    after = contents(place.folder / "state")
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"audit.db-wal", "audit.db-shm"}  # any reader of SQLite leaves them
    asked = [call for call in place.emulator.calls if call.operation == "GetInstanceAccessDetails"]
    assert all(call.answered != "ok" for call in asked)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_init_never_overwrites_anything(place: Place) -> None:
    before = contents(place.folder)
    again = await place.broker("init")
    assert again.code == 0
    assert "created" not in again.err
    assert contents(place.folder) == before


@pytest.mark.parametrize("lost", ["state/audit.db", "state/audit.key"])
async def test_init_does_not_hide_a_loss(place: Place, lost: str) -> None:
    (place.folder / lost).rename(place.folder / "lost")
    refused = await place.broker("init")
    assert refused.code == 7
    assert f"{lost} is not" in refused.err
    assert not (place.folder / lost).exists()


async def test_init_does_not_make_a_new_master_key_for_old_keys(place: Place) -> None:
    options = ["--account", "main", "--region", "eu-west-1", "--private-key", "team-key.pem"]
    assert (await place.broker("keys", "add", "team-key", *options)).code == 0
    (place.folder / "state" / "master.key").unlink()
    refused = await place.broker("init")
    assert refused.code == 7
    assert "master key" in refused.err
    assert not (place.folder / "state" / "master.key").exists()


async def test_init_on_an_empty_folder_writes_settings_to_fill_in(tmp_path: Path) -> None:
    environment = {"BROKER_CONFIG": str(tmp_path / "new" / "broker.toml")}
    first = await run_broker(["init"], environment)
    assert (first.code, [path.name for path in (tmp_path / "new").iterdir()]) == (0, ["broker.toml"])
    refused = await run_broker(["init"], environment)
    assert (refused.code, "audit.origin" in refused.err) == (2, True)
    settings = tmp_path / "new" / "broker.toml"
    settings.write_text(settings.read_text().replace("broker.example.com/audit", "broker.corp.example/audit"))
    second = await run_broker(["init"], environment)
    assert second.code == 0, second.err
    state = tmp_path / "new" / "state"
    assert {path.name for path in state.iterdir()} >= {"audit.db", "audit.key", "audit.key.pub", "master.key", "keys"}
    shared = [path.name for path in state.rglob("*") if path.stat().st_mode & 0o077 and path.suffix != ".pub"]
    assert shared == []
    assert state.stat().st_mode & 0o077 == 0
    checked = await run_broker(["check"], environment, tmp_path)
    assert checked.code == 1
    assert "PROBLEM  audit" not in checked.out


async def test_traces_reach_a_collector_and_name_nobody(place: Place) -> None:
    collector = Collector()
    application = web.Application()
    application.router.add_post("/v1/traces", collector.take)
    server = TestServer(application)
    await server.start_server()
    place.environment["BROKER__TRACES__ENDPOINT"] = str(server.make_url("/v1/traces"))
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with place.serving() as service:
        for token in (place.token, "forged"):
            headers = {"Authorization": f"Bearer {token}", "traceparent": parent}
            address = f"{service.url}/v1/credentials"
            async with service.session.post(address, json={"instance": "web-1"}, headers=headers) as response:
                await response.read()
        assert await service.stop() == 0
    await server.close()
    asked = [span for span in collector.spans if span.name == "POST /v1/credentials"]
    assert [span.trace_id.hex() == parent[3:35] for span in asked] == [True, False]  # a stranger's is not believed
    inside = {span.name for span in collector.spans if span.parent_span_id == asked[0].span_id}
    assert inside == {"authentication", "decision", "record", "lightsail", "unsealing"}
    told = "".join(map(str, collector.spans))
    assert not [word for word in ("web-1", "alice", "main", place.token[:20]) if word in told]
