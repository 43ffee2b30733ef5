"""G5: CPU of a decision among 10,000 policies against 10, in short turns, so that neighbours disturb both alike."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from benchmarks.goals import Outcome, Row
from benchmarks.plots import Plot
from benchmarks.profiles import Profile
from benchmarks.world import policies
from broker.authorization.policies import Policies
from broker.model import Action, Caller, Instance, InstanceRef, Platform, RequestContext

_TURNS_A_SECOND = 5


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Measure sets of several sizes in turns."""
    return await asyncio.to_thread(_measure, folder, profile)


def _measure(folder: Path, profile: Profile) -> Outcome:
    sizes = [size for size in (10, 100, 1_000) if size < profile.policies] + [profile.policies]
    engines = [_engine(folder / str(size), size) for size in sizes]
    rounds = [_turns(engines, max(1, int(profile.seconds * _TURNS_A_SECOND))) for _ in range(profile.rounds)]
    costs = [median(column) for column in zip(*rounds, strict=True)]
    note = f"{sizes[-1]:,} policies {costs[-1] * 1e6:.0f} us, {sizes[0]} policies {costs[0] * 1e6:.0f} us"
    plot = Plot(
        name="cost-by-policies",
        title="CPU of a decision by the number of policies",
        across="policies",
        up="microseconds",
        lines={"a decision": [(size, cost * 1e6) for size, cost in zip(sizes, costs, strict=True)]},
        logarithmic_across=True,
    )
    values = [each[-1] / each[0] for each in rounds]
    return Outcome([Row("G5 decision", values, 1.2, more_is_better=False, note=note)], [plot])


def _turns(engines: list[Policies], turns: int) -> list[float]:
    costs = [[_cpu_of_a_decision(engine) for engine in engines] for _ in range(turns)]
    return [median(column) for column in zip(*costs, strict=True)]


def _engine(folder: Path, count: int) -> Policies:
    policies(folder, count)
    engine = Policies(folder)
    engine.load()
    return engine


def _cpu_of_a_decision(engine: Policies, count: int = 400) -> float:
    now = datetime.now(UTC)
    caller = Caller(
        issuer="corp", subject="person-1", kind="user", groups=("ops",), token_expires_at=now + timedelta(hours=1)
    )
    instance = Instance(
        ref=InstanceRef("main", "eu-west-1", "web-1"),
        platform=Platform.LINUX_UNIX,
        blueprint="amazon_linux_2023",
        bundle="nano_3_0",
        state="running",
    )
    context = RequestContext(now=now, source_ip="127.0.0.1")
    assert engine.decide(caller, Action.SSH, instance, context).allowed
    started = time.process_time()
    for _ in range(count):
        engine.decide(caller, Action.SSH, instance, context)
    return (time.process_time() - started) / count
