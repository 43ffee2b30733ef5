"""The measurements, one function each: alternating rounds of the thing and its baseline."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.goals import Row
from benchmarks.world import World, policies
from broker.authorization.policies import Policies
from broker.model import Action, Caller, Instance, InstanceRef, Platform, RequestContext

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(process: int) -> float:
    """Answer the CPU seconds of a process, its threads included."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def throughput(
    scene: World, instance: str, protocol: str, rounds: int, targets: Mapping[str, float]
) -> list[Row]:
    """G1 and G2: credentials of the broker against direct calls of one shared client, 32 at a time."""
    throughputs, costs, notes = [], [], []
    broker_options = ["--ca", str(scene.ca), "--tokens", str(scene.tokens)]
    for _ in range(rounds):
        direct = await _load(["direct", scene.double, instance, protocol])
        before = scene.events()
        issued, cpu = await _broker_load(scene, ["broker", scene.url, instance, protocol, *broker_options])
        assert direct["errors"] == issued["errors"] == 0, (direct, issued)
        two_records = Counter({"credential.requested": issued["total"], "credential.issued": issued["total"]})
        assert scene.events() - before == two_records, (scene.events() - before, issued)
        throughputs.append((issued["count"] / issued["seconds"]) / (direct["count"] / direct["seconds"]))
        costs.append((cpu / issued["count"]) / (direct["cpu"] / direct["count"]))
        notes.append((issued["count"] / issued["seconds"], direct["count"] / direct["seconds"], cpu / issued["count"]))
    here, there, cost = (median(column) for column in zip(*notes, strict=True))
    (first, at_least), (second, at_most) = targets.items()
    return [
        Row(first, throughputs, at_least, more_is_better=True, note=f"{here:.0f}/s against {there:.0f}/s"),
        Row(second, costs, at_most, more_is_better=False, note=f"{cost * 1000:.2f} ms CPU a credential"),
    ]


async def overload(scene: World, rounds: int) -> list[Row]:
    """G14: what still gets a credential when 32 times as many ask as at the peak, and right after that."""
    options = ["--ca", str(scene.ca), "--tokens", str(scene.tokens), "--seconds", "4"]
    words = ["broker", scene.url, "web-1", "ssh", *options]
    kept, recovered, notes = [], [], []
    for _ in range(rounds):
        peak, _ = await _broker_load(scene, words)
        over, _ = await _broker_load(scene, [*words, "--workers", "1024"])
        after, _ = await _broker_load(scene, words)
        assert peak["errors"] == after["errors"] == 0, (peak, after)
        rates = [each["good"] / each["seconds"] for each in (peak, over, after)]
        kept.append(rates[1] / rates[0])
        recovered.append(rates[2] / rates[0])
        notes.append((over["count"] - over["good"], over["milliseconds"][1] / peak["milliseconds"][1]))
    refused, slower = (median(column) for column in zip(*notes, strict=True))
    told = f"1024 at once: {refused:.0f} turned away in 4 s, p99 of the others {slower:.1f} times that of 32 at once"
    return [
        Row("G14 goodput", kept, 0.8, more_is_better=True, note=told),
        Row("G14 after it", recovered, 0.9, more_is_better=True, note="32 at once, right after"),
    ]


async def _load(words: Sequence[str]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load", *words, stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer


async def _broker_load(scene: World, words: Sequence[str]) -> tuple[dict[str, Any], float]:
    """Run the load; answer it with the broker's CPU seconds while it was measured."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load", *words, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    before = cpu_of(scene.broker)
    line = await process.stdout.readline()
    cpu = cpu_of(scene.broker) - before
    await process.wait()
    answer: dict[str, Any] = json.loads(line)
    return answer, cpu


def decisions(folder: Path, rounds: int) -> list[Row]:
    """G5: CPU of a decision among 10,000 policies against 10, in short turns, so that neighbours disturb both alike."""
    small, large = _engine(folder / "small", 10), _engine(folder / "large", 10_000)
    pairs = [_alternating(small, large) for _ in range(rounds)]
    note = f"{median(few for few, _ in pairs) * 1e6:.0f} us against {median(many for _, many in pairs) * 1e6:.0f} us"
    return [Row("G5 decision", [many / few for few, many in pairs], 1.2, more_is_better=False, note=note)]


def _alternating(small: Policies, large: Policies, turns: int = 15) -> tuple[float, float]:
    costs = [(_cpu_of_a_decision(small), _cpu_of_a_decision(large)) for _ in range(turns)]
    few, many = (median(column) for column in zip(*costs, strict=True))
    return few, many


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


async def client_time(scene: World, rounds: int) -> list[Row]:
    """G12: wall time of `broker get` against `aws lightsail get-instance-access-details`."""
    environment = {
        **os.environ,
        "BROKER_URL": scene.url,
        "BROKER_CA_FILE": str(scene.ca),
        "BROKER_TOKEN": scene.tokens.read_text().split()[0],
    }
    programs = Path(sys.executable).parent
    ours = [str(programs / "broker"), "get", "web-1"]
    theirs = [str(programs / "aws"), "lightsail", "get-instance-access-details", "--instance-name", "web-1"]
    theirs += ["--protocol", "ssh", "--region", "eu-west-1", "--endpoint-url", scene.double]
    pairs = [(await _wall(ours, environment), await _wall(theirs, environment)) for _ in range(rounds)][1:]
    note = f"{median(a for a, _ in pairs) * 1000:.0f} ms against {median(b for _, b in pairs) * 1000:.0f} ms"
    return [Row("G12 broker get", [a / b for a, b in pairs], 0.2, more_is_better=False, note=note)]


async def _wall(words: Sequence[str], environment: Mapping[str, str]) -> float:
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert await process.wait() == 0, words
    return time.perf_counter() - started
