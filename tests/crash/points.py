"""Where a broker is hurt: a phase of its life, a system call, and which one of those calls.

The calls are counted in a run that nothing happens to; then there is one run for each point. Which points are chosen
when not all are wanted follows from `SEED` alone.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from tests.crash.ground import LAST_ROUNDS, MORE_ROUNDS, Ground, Reply, Service
from tests.crash.judging import contradictions
from tests.real.strace import calls

SEED = "broker"


class Phase(StrEnum):
    """What the broker is doing."""

    STARTING = "starting"
    ISSUING = "issuing"
    STOPPING = "stopping"


_FILES = ("audit.db", "audit.db-wal", "audit.db-shm", "audit.db.lock", "")
"""In the folder of the log, and that folder itself."""

STORAGE = (
    *("pwrite64", "pread64", "fdatasync", "fsync", "fcntl", "ftruncate"),
    *("unlink", "unlinkat", "openat", "close", "read", "write"),
)
SOCKETS = ("accept4", "connect", "setsockopt", "recvfrom", "recvmsg", "sendto", "sendmsg", "writev")
TRACED: Mapping[Phase, Sequence[str]] = {
    Phase.STARTING: STORAGE,
    Phase.ISSUING: (*STORAGE, *SOCKETS),
    Phase.STOPPING: STORAGE,
}
"""Starting and stopping, only the log's own files count; issuing, whatever goes to a file or a socket."""


class Kind(NamedTuple):
    """A system call in a phase."""

    phase: Phase
    call: str

    def __str__(self) -> str:
        return f"{self.phase} {self.call}"

    def options(self, database: Path, number: int, effect: str) -> list[str]:
        """Answer what strace is told to let the call of that number meet `effect`."""
        rule = ["-e", f"trace={self.call}", "-e", f"inject={self.call}:{effect}:when={number}"]
        return [*rule, *_only_the_log(self.phase, database)]


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What came of one run: the replies, what AWS was asked for, and how the process ended."""

    folder: Path
    replies: Sequence[Reply]
    asked: Sequence[str]
    status: int

    @property
    def died(self) -> bool:
        """Whether it was killed."""
        return self.status == -9

    @property
    def database(self) -> Path:
        """The log."""
        return self.folder / "state" / "audit.db"


def _only_the_log(phase: Phase, database: Path) -> list[str]:
    if phase is Phase.ISSUING:
        return []
    return [word for name in _FILES for word in ("-P", str(database.parent / name))]


async def run(ground: Ground, phase: Phase, options: Sequence[str], folder: Path) -> Aftermath:
    """Start a broker, ask for credentials, stop it; under strace in one phase."""
    since = len(ground.emulator.calls)
    replies: list[Reply] = []
    async with ground.forked(folder) as service, AsyncExitStack() as tracing:
        if phase is Phase.STARTING:
            await tracing.enter_async_context(service.attached(*options))
        service.fork.go()
        if await service.serves():
            replies = await _serve(service, phase, options, tracing)
        return Aftermath(folder, replies, ground.asked_of_aws(since), await service.end())


async def _serve(service: Service, phase: Phase, options: Sequence[str], tracing: AsyncExitStack) -> list[Reply]:
    if phase is Phase.STARTING:
        await tracing.aclose()
    if phase is Phase.ISSUING:
        async with service.attached(*options):
            replies = await service.ask()
    else:
        replies = await service.ask()
    if phase is Phase.STOPPING:
        await tracing.enter_async_context(service.attached(*options))
    await service.stop()
    return replies


async def count_calls(ground: Ground, phase: Phase) -> dict[Kind, int]:
    """Answer how often each system call comes in a run that nothing happens to, in the thread that makes most."""
    folder = ground.copy()
    options = [
        "-e",
        "trace=" + ",".join(f"?{call}" for call in TRACED[phase]),
        *_only_the_log(phase, folder / "state" / "audit.db"),
    ]
    aftermath = await run(ground, phase, options, folder)
    assert aftermath.status == 0, aftermath
    counted = Counter((call.thread, call.name) for call in calls((folder / "trace").read_text().splitlines()))
    most: dict[Kind, int] = {}
    for (_, name), number in counted.items():
        kind = Kind(phase, name)
        most[kind] = max(number, most.get(kind, 0))
    return most


def chosen(kind: Kind, total: int, wanted: int) -> list[int]:
    """Choose so many of the calls of a kind, the same in every run."""
    numbers = range(1, total + 1)
    return sorted(random.Random(f"{SEED} {kind}").sample(numbers, min(wanted, total)))  # noqa: S311 -- repeatable


async def kill_at(ground: Ground, kind: Kind, number: int) -> Aftermath:
    """Kill a broker inside one system call."""
    folder = ground.copy()
    return await run(ground, kind.phase, kind.options(folder / "state" / "audit.db", number, "signal=KILL"), folder)


async def wrongs_after(ground: Ground, aftermath: Aftermath) -> list[str]:
    """Start again where a broker ended, let it serve and stop it; answer everything that is not as it must be."""
    since = len(ground.emulator.calls)
    async with ground.forked(aftermath.folder) as service:
        service.fork.go()
        if not await service.serves():
            return [f"it does not start again: {service.fork.said}"]
        replies = await service.ask(LAST_ROUNDS)
        wrongs = [f"{reply.instance}: {reply.status} after the restart" for reply in replies if reply.status != 201]
        if status := await service.stop():
            wrongs.append(f"it stopped with {status} after the restart")
    if verdict := ground.verdict(aftermath.database):
        wrongs.append(f"the log is not clean: {verdict}")
    asked = [*aftermath.asked, *ground.asked_of_aws(since)]
    return wrongs + list(contradictions(service.events(), [*aftermath.replies, *replies], asked))


class Point(NamedTuple):
    """One system call to be hit."""

    kind: Kind
    number: int

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"


async def every_point(ground: Ground, phase: Phase, among: Iterable[str]) -> list[Point]:
    """Answer all calls of these names in a phase."""
    counted = await count_calls(ground, phase)
    kinds = sorted((kind, total) for kind, total in counted.items() if kind.call in set(among))
    return [Point(kind, number) for kind, total in kinds for number in range(1, total + 1)]


async def some_points(ground: Ground, phase: Phase, among: Iterable[str], wanted: Mapping[str, int]) -> list[Point]:
    """Choose so many calls of each kind, two of those that are not mentioned; the same ones in every run."""
    counted = await count_calls(ground, phase)
    return [
        Point(kind, number)
        for kind, total in sorted(counted.items())
        if kind.call in set(among)
        for number in chosen(kind, total, wanted.get(kind.call, 2))
    ]


async def survive(ground: Ground, points: Sequence[Point]) -> dict[str, list[str]]:
    """Kill a broker at every point and start it again; answer what is wrong, by point.

    A few may live: how often a socket is read depends on how its bytes arrive. Those are hit again, earlier.
    """
    wrongs: dict[str, list[str]] = {}
    alive = []
    for point in points:
        aftermath = await kill_at(ground, point.kind, point.number)
        if not aftermath.died:
            shutil.rmtree(aftermath.folder)
            aftermath = await kill_at(ground, point.kind, (point.number + 1) // 2)
        if not aftermath.died:
            alive.append(str(point))
        if found := await wrongs_after(ground, aftermath):
            wrongs[str(point)] = found
        shutil.rmtree(aftermath.folder)
    if len(alive) > len(points) // 10:
        wrongs["not killed"] = alive
    print(f"killed at {len(points) - len(alive)} points, chosen by the seed {SEED!r}")  # noqa: T201 -- shown on failure
    return wrongs


@dataclass(frozen=True, slots=True)
class Wounded:
    """What a broker said and did that one system call failed under."""

    aftermath: Aftermath
    readiness: tuple[int, str]
    later: Sequence[Reply]
    """The answers to who asked after that."""
    healed: tuple[int, str]
    """Its readiness after that."""


async def wound(ground: Ground, point: Point, error: str, *, patience: float = 0.0) -> Wounded:
    """Let one system call of a broker that issues fail; ask it again after so many seconds, and stop it."""
    folder, since = ground.copy(), len(ground.emulator.calls)
    options = point.kind.options(folder / "state" / "audit.db", point.number, f"error={error}")
    async with ground.serving(folder) as service:
        async with service.attached(*options):
            replies = await service.ask()
        readiness = await service.readiness()
        await asyncio.sleep(patience)
        later = await service.ask(MORE_ROUNDS)
        healed = await service.readiness()
        status = await service.stop()
    aftermath = Aftermath(folder, [*replies, *later], ground.asked_of_aws(since), status)
    return Wounded(aftermath, readiness, later, healed)
