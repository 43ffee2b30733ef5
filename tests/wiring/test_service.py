"""The composition root: what is opened is closed, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import ClientSession

from broker import state, wiring
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.cli.main import main
from broker.demo.stage import make_tls
from broker.errors import AuditUnavailable, KeysUnavailable, PoliciesUnavailable
from broker.settings import Settings, load

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
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "broker.toml").write_text(SETTINGS)
    (tmp_path / "jwks.json").write_text('{"keys": []}')
    (tmp_path / "policies").mkdir()
    list(state.create(settings(tmp_path)))
    return tmp_path


def settings(folder: Path, **environment: str) -> Settings:
    return load(folder / "broker.toml", environment)


def events(folder: Path) -> list[str]:
    """Answer the names of the events in the log, oldest first."""
    with closing(SqliteReader(folder / "state" / "audit.db")) as reader:
        size = reader.head().size
        found = [reader.find(index) for index in range(size)]
    return [json.loads(each.record.leaf)["event"] for each in found if each is not None]


@pytest.fixture
def taken() -> Iterator[str]:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_it_serves_before_aws_and_issuers_answer_and_says_so(folder: Path) -> None:
    async with wiring.service(settings(folder)) as service, ClientSession() as session:
        async with session.get(f"{service.url}/healthz") as alive:
            assert alive.status == 200
        async with session.get(f"{service.url}/readyz") as ready:
            components = (await ready.json())["components"]
    assert {name for name, component in components.items() if not component["ready"]} == {"issuers", "lightsail"}
    assert events(folder) == ["service.started", "policies.loaded", "service.stopped"]


@pytest.mark.parametrize(("workers", "share"), [("1", 30), ("4", 7), ("64", 1)])
def test_what_one_process_may_use_up_of_a_limit_is_its_part(folder: Path, workers: str, share: int) -> None:
    several = settings(folder, BROKER__SERVER__WORKERS=workers, BROKER__AUDIT__DATABASE="postgresql:///audit")
    assert wiring.share(30, several) == share


async def test_an_address_that_is_taken_leaves_no_trace_in_the_log(folder: Path, taken: str) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        async with wiring.service(settings(folder, BROKER__SERVER__LISTEN=taken)):
            raise AssertionError
    assert events(folder) == []
    async with wiring.service(settings(folder)):
        pass  # the log is free


async def test_policies_and_keys_that_do_not_work_leave_no_trace_in_the_log(folder: Path) -> None:
    (folder / "policies" / "broken.cedar").write_text("permit(")
    with pytest.raises(PoliciesUnavailable):
        async with wiring.service(settings(folder)):
            raise AssertionError
    assert events(folder) == []
    (folder / "policies" / "broken.cedar").unlink()
    (folder / "state" / "master.key").rename(folder / "elsewhere")
    with pytest.raises(KeysUnavailable):
        async with wiring.service(settings(folder)):
            raise AssertionError
    assert events(folder) == []


async def test_tls_that_does_not_work_leaves_no_trace_in_the_log(folder: Path) -> None:
    make_tls(folder)
    (folder / "tls.key").write_text("none")
    with pytest.raises(OSError, match=r"tls\.key"):
        async with wiring.service(
            settings(folder, BROKER__SERVER__TLS_CERTIFICATE="tls.crt", BROKER__SERVER__TLS_PRIVATE_KEY="tls.key")
        ):
            raise AssertionError
    assert events(folder) == []


async def test_an_error_while_it_runs_reaches_whoever_runs_it_and_seals_the_log(folder: Path) -> None:
    with pytest.raises(KeyError):
        async with wiring.service(settings(folder)):
            raise KeyError
    assert events(folder)[-1] == "service.stopped"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_starting_and_stopping_leaves_no_file_open_and_no_task_behind(folder: Path) -> None:
    async def once() -> int:
        async with wiring.service(settings(folder)):
            pass
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return open_files()

    before = await once()
    assert await once() == before


async def test_a_log_below_its_anchor_is_not_served_and_check_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anchor = '[[audit.anchors]]\nname = "vault"\nkind = "file"\npath = "anchor/checkpoints"\n'
    with_anchor(folder, anchor)
    kept = (folder / "state" / "audit.db").read_bytes()
    async with (
        wiring.service(settings(folder)) as service,
        ClientSession() as session,
        session.get(f"{service.url}/readyz") as ready,
    ):
        assert (await ready.json())["components"]["anchors"] == {"ready": True, "detail": ""}
    newest = (folder / "anchor" / "checkpoints").read_text().split("\n\n")[-3].split("\n")[1]
    assert int(newest) == len(events(folder)) == 3
    roll_back(folder, kept)
    with pytest.raises(AuditUnavailable, match="anchor vault: rolled back: 3 events were anchored, 0 are here"):
        async with wiring.service(settings(folder)):
            raise AssertionError
    assert events(folder) == []
    await asyncio.to_thread(main, ["check", "--config", str(folder / "broker.toml")])
    said = capsys.readouterr().out
    assert "vault: rolled back: 3 events were anchored, 0 are here" in said
    assert "vault: it lies on the same disk as the log" in said


async def test_a_stop_leaves_the_whole_log_in_its_file_and_its_last_checkpoint_in_the_anchor(folder: Path) -> None:
    with_anchor(folder, '[[audit.anchors]]\nname = "vault"\nkind = "file"\npath = "anchor/checkpoints"\n')
    async with wiring.service(settings(folder)):
        pass
    assert {file.name for file in (folder / "state").glob("audit.db*")} - {"audit.db-texts"} == {
        "audit.db",
        "audit.db.lock",
    }
    with closing(SqliteReader(folder / "state" / "audit.db")) as reader:
        newest = reader.newest_checkpoint()
    assert newest
    assert newest.size == len(events(folder))
    assert (folder / "anchor" / "checkpoints").read_text().endswith(f"{newest.note}\n")


def with_anchor(folder: Path, anchor: str) -> None:
    path = folder / "broker.toml"
    path.write_text(path.read_text() + anchor)
    (folder / "anchor").mkdir()


def roll_back(folder: Path, kept: bytes) -> None:
    for file in (folder / "state").glob("audit.db*"):
        file.unlink()
    (folder / "state" / "audit.db").write_bytes(kept)
    (folder / "state" / "audit.db").chmod(0o600)
