"""Disks that are full or read-only, and files that are taken away from under a broker that serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from broker.audit.evidence import open_database
from tests.crash.faults import CLOSED, REFUSED
from tests.crash.ground import Ground, Service
from tests.crash.points import Aftermath, wrongs_after
from tests.end_to_end.places import eventually
from tests.real.forks import Forks

pytestmark = [pytest.mark.real("unshare"), pytest.mark.asyncio(loop_scope="module")]

NOTICED = 5.0
"""Within so many seconds a broker notices that a file of its log is not there any more."""


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks(private_mounts=True) as forks:
        yield forks


def put_on_a_disk_of_its_own(ground: Ground, state: Path, *options: str) -> Path:
    """Copy the state to a file system that is seen by the forks only; answer where it was put aside for all."""
    saved = state.with_name("saved")
    state.rename(saved)
    state.mkdir(mode=0o700)
    ground.forks.inside("mount", "-t", "tmpfs", *options, "none", str(state))
    ground.forks.inside("cp", "-a", f"{saved}/.", str(state))
    return saved


def fill(path: Path) -> None:
    """Write a file until there is no room for it."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


async def told(service: Service, detail: str) -> None:
    """Wait until the readiness says this of the log."""

    async def says() -> bool:
        return await service.readiness() == ((503 if detail else 200), detail)

    await eventually(says, NOTICED)


async def test_a_full_disk_refuses_and_is_forgotten_when_there_is_room_again(ground: Ground) -> None:
    folder, since = ground.copy(), len(ground.emulator.calls)
    saved = put_on_a_disk_of_its_own(ground, folder / "state", "-o", "size=1m,mode=700")
    filler = ground.forks.seen(folder / "state" / "filler")
    async with ground.serving(folder) as service:
        fill(filler)
        replies = await service.ask([("web-1",), ("web-2",)])
        assert [(reply.status, reply.document["code"]) for reply in replies] == [(503, "audit_unavailable")] * 2
        assert await service.readiness() == (503, REFUSED)
        assert ground.asked_of_aws(since) == []
        filler.unlink()
        await told(service, "")
        assert [reply.status for reply in await service.ask([("web-3",)])] == [201]
        assert await service.stop() == 0
    ground.forks.inside("cp", str(folder / "state" / "audit.db"), str(saved / "audit.db"))
    assert ground.verdict(saved / "audit.db") == ""


@pytest.mark.real("strace")
async def test_a_write_ahead_log_that_cannot_grow_is_as_good_as_a_full_disk(ground: Ground) -> None:
    folder, since = ground.copy(), len(ground.emulator.calls)
    wal = str(folder / "state" / "audit.db-wal")
    full = ("-P", wal, "-e", "trace=pwrite64", "-e", "inject=pwrite64:error=ENOSPC")
    async with ground.serving(folder) as service:
        async with service.attached(*full):
            refused = await service.ask([("web-1", "web-2", "win-1")])
            assert {reply.status for reply in refused} == {503}
            assert await service.readiness() == (503, REFUSED)
        await told(service, "")
        replies = await service.ask([("web-3",)])
        assert [reply.status for reply in replies] == [201]
        status = await service.stop()
    aftermath = Aftermath(folder, [*refused, *replies], ground.asked_of_aws(since), status)
    assert await wrongs_after(ground, aftermath) == []


async def test_it_does_not_start_where_it_cannot_write(ground: Ground) -> None:
    folder = ground.copy()
    state = str(folder / "state")
    ground.forks.inside("mount", "--bind", state, state)
    ground.forks.inside("mount", "-o", "remount,bind,ro", state)
    async with ground.forked(folder) as service:
        service.fork.go()
        assert not await service.serves()
        assert await service.end() == 7
        said = service.fork.said
    assert said.startswith("broker: ")
    assert "Read-only file system" in said
    assert said.count("\n") == 1


def renamed(database: Path) -> None:
    database.rename(database.with_name("elsewhere"))


def replaced_by_a_copy(database: Path) -> None:
    copy = database.with_name("copy")
    copy.write_bytes(database.read_bytes())
    copy.rename(database)


def without_its_write_ahead_log(database: Path) -> None:
    database.with_name("audit.db-wal").unlink()


@pytest.mark.parametrize("taken", [renamed, replaced_by_a_copy, Path.unlink, without_its_write_ahead_log])
async def test_a_file_that_is_taken_away_closes_the_log_and_nothing_is_issued_into_it(
    ground: Ground, taken: Callable[[Path], None]
) -> None:
    async with ground.serving(ground.copy()) as service:
        assert [reply.status for reply in await service.ask([("web-1",)])] == [201]
        taken(service.database)
        assert [reply.status for reply in await service.ask([("web-2",)])] == [503]
        await told(service, CLOSED)
        assert [reply.status for reply in await service.ask([("web-3",)])] == [503]
        await service.stop()


async def test_a_file_that_was_renamed_is_noticed_though_nobody_asks_and_serves_again_when_it_is_back(
    ground: Ground,
) -> None:
    folder, since = ground.copy(), len(ground.emulator.calls)
    async with ground.serving(folder) as service:
        replies = await service.ask([("web-1",)])
        renamed(service.database)
        await told(service, CLOSED)
        status = await service.stop()
    with pytest.raises(Exception, match="cannot be read"), open_database(service.database):
        pass
    service.database.with_name("elsewhere").rename(service.database)
    aftermath = Aftermath(folder, replies, ground.asked_of_aws(since), status)
    assert await wrongs_after(ground, aftermath) == []
