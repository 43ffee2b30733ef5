"""Scale: 20 accounts of two regions with 125 instances each, and 10,000 policies.

How often AWS is called while nobody asks, what that costs, how long it stops the event loop; then what a caller waits
for who lists all instances, and who looks at one.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import aiohttp

from benchmarks.goals import Outcome, Row
from benchmarks.processes import cpu_of, memory_of
from benchmarks.profiles import Profile
from benchmarks.progress import say
from benchmarks.world import CREDENTIALS, ISSUER, SETTINGS, people, policies, run, serve
from broker import settings, state
from broker.demo.stage import make_tls
from broker.emulator import Emulator, Fixture
from broker.lightsail.inventory import FIRST_LISTS_SECONDS
from broker.lightsail.region import Freshness

REGIONS = ("eu-west-1", "us-east-1")
INSTANCES = 125
"""In each region."""
PAGE = 100
"""So many items has a page of the emulator; AWS does not say how many one of its own has."""
LIMIT = 100
"""So many instances has a page of the broker."""
_LOOKS = 200
_PATIENCE_SECONDS = 60.0
_MAY_LIST = '@id("all-list")\npermit(principal in Group::"corp/ops", action == Action::"list", resource);\n'
_LAG = re.compile(r"^broker_event_loop_lag_seconds (\S+)$", re.MULTILINE)
_LISTED = {"GetInstances": INSTANCES, "GetKeyPairs": 1}
"""What is listed again and again, and how many of it there are in a region."""


@dataclass(frozen=True, slots=True)
class Estate:
    """A broker of many accounts, and whoever asks it."""

    emulator: Emulator
    broker: int
    http: aiohttp.ClientSession
    places: int

    async def get(self, path: str) -> Any:  # noqa: ANN401 -- JSON, or text
        """Ask for something that is there."""
        async with self.http.get(path) as answer:
            assert answer.status == 200, (path, answer.status, await answer.text())  # noqa: PLR2004 -- HTTP's own
            return await answer.json() if path.startswith("/v1/") else await answer.text()

    async def stop(self) -> float:
        """Answer the longest stop of the event loop since it was last asked, in milliseconds."""
        found = _LAG.search(await self.get("/metrics"))
        assert found is not None
        return float(found[1]) * 1000


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Start, wait, list, look."""
    quiet = Freshness().refresh_every.total_seconds()
    async with _estate(folder, profile) as estate:
        ready = await _filled(estate)
        memory = memory_of(estate.broker)
        await asyncio.sleep(FIRST_LISTS_SECONDS)  # what begins with the start is over: now each region comes up once
        await estate.stop()
        since, cpu = datetime.now().astimezone(), cpu_of(estate.broker)
        await asyncio.sleep(quiet)
        until, spent = datetime.now().astimezone(), cpu_of(estate.broker) - cpu
        stop = await estate.stop()
        calls = Counter(call.operation for call in estate.emulator.calls if since < call.at <= until)
        cpu = cpu_of(estate.broker)
        listed, pages = await _walk(estate, estate.places * INSTANCES)
        paging = (cpu_of(estate.broker) - cpu) * 1000 / len(pages)
        listing = await estate.stop()
        looks = await _look(estate, profile)
        memory_after = memory_of(estate.broker)
    counted = sum(calls[name] for name in _LISTED) * 60 / quiet
    formula = estate.places * sum(math.ceil(number / PAGE) for number in _LISTED.values()) * 60 / quiet
    names = f"{estate.places} places, {listed:,} instances, {profile.policies:,} policies"
    say(f"  {names}: all listed {ready:.1f} s after the start, {dict(calls)} in {quiet:.0f} s")
    told = f"{counted:.0f} counted against {formula:.0f} by the formula, a page of {PAGE} instances; {names}"
    paged = f"page of {LIMIT}, {paging:.0f} ms of CPU; all in {sum(pages) / 1000:.1f} s; longest stop {listing:.0f} ms"
    return Outcome(
        [
            Row("scale calls a minute", [counted / formula], 1.1, more_is_better=False, note=told),
            Row(
                "scale refresh, CPU",
                [spent / quiet * 100],
                10,
                more_is_better=False,
                note="of one processor, nobody asking",
                unit="%",
            ),
            Row(
                "scale refresh, stop",
                [stop],
                50,
                more_is_better=False,
                note="of the event loop, the longest",
                unit="ms",
            ),
            Row("scale list", [median(pages)], 100, more_is_better=False, note=paged, unit="ms"),
            Row(
                "scale look",
                [median(looks)],
                20,
                more_is_better=False,
                note=f"one instance by its name, p99 {quantiles(looks, n=100)[98]:.1f} ms",
                unit="ms",
            ),
            Row(
                "scale estate, memory",
                [memory_after],
                600,
                more_is_better=False,
                note=f"{memory:.0f} MB before anybody asked; start to full lists {ready:.1f} s",
                unit="MB",
            ),
        ]
    )


@asynccontextmanager
async def _estate(folder: Path, profile: Profile) -> AsyncIterator[Estate]:
    os.environ.update(CREDENTIALS)
    place = {"blueprint": "amazon_linux_2023", "bundle": "nano_3_0", "public_ip": "127.0.0.1", "tags": {"env": "dev"}}
    instances = [
        {**place, "name": f"web-{number}", "region": region} for region in REGIONS for number in range(INSTANCES)
    ]
    async with Emulator(Fixture.of({"instances": instances, "page_size": PAGE}, folder)) as emulator:
        people(folder)
        make_tls(folder)
        policies(folder / "policies", profile.policies)
        (folder / "policies" / "list.cedar").write_text(_MAY_LIST)
        text = SETTINGS.format(issuer=ISSUER, endpoint=emulator.url, database="")
        regions = ", ".join(f'"{region}"' for region in REGIONS)
        account = f'[[accounts]]\nname = "main-{{}}"\nregions = [{regions}]\nendpoint_url = "{emulator.url}"\n'
        text = text.replace('["eu-west-1"]', f"[{regions}]") + "".join(map(account.format, range(1, profile.accounts)))
        (folder / "broker.toml").write_text(text)
        list(state.create(settings.load(folder / "broker.toml", {})))
        token = (folder / "tokens").read_text().split()[0]
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            serve(folder) as (url, process),
            aiohttp.ClientSession(url, headers=headers, connector=aiohttp.TCPConnector(ssl=context)) as http,
        ):
            yield Estate(emulator, process, http, profile.accounts * len(REGIONS))
        await run(folder, "audit", "verify")


async def _filled(estate: Estate) -> float:
    """Wait until all instances are listed; answer for how long."""
    started = perf_counter()
    age = re.compile(r"^broker_lightsail_inventory_age_seconds\{", re.MULTILINE)
    async with asyncio.timeout(_PATIENCE_SECONDS):
        found = 0
        while found < estate.places:
            await asyncio.sleep(0.5)
            with suppress(
                aiohttp.ConnectionTimeoutError
            ):  # the emulator runs in this loop, and has much to do at first
                found = len(age.findall(await estate.get("/metrics")))
        while True:
            async with estate.http.get("/v1/instances?limit=1") as answer:
                if answer.status == 200:  # noqa: PLR2004 -- HTTP's own
                    break
            await asyncio.sleep(1)
    return perf_counter() - started


async def _walk(estate: Estate, count: int | None = None) -> tuple[int, list[float]]:
    """List all instances page by page; answer how many there are, and the milliseconds of each page."""
    found, times, after = set(), [], ""
    while True:
        started = perf_counter()
        page = await estate.get(f"/v1/instances?limit={LIMIT}{after}")
        times.append((perf_counter() - started) * 1000)
        found |= {(item["account"], item["region"], item["name"]) for item in page["items"]}
        if page["next_cursor"] is None:
            break
        after = f"&cursor={page['next_cursor']}"
    assert count is None or len(found) == count, len(found)
    return len(found), times


async def _look(estate: Estate, profile: Profile) -> list[float]:
    """Look at instances here and there, one after the other; answer the milliseconds of each look."""
    times = []
    for number in range(_LOOKS):
        account = f"main-{number % (profile.accounts - 1) + 1}"
        region, name = REGIONS[number % len(REGIONS)], f"web-{number % INSTANCES}"
        started = perf_counter()
        seen = await estate.get(f"/v1/instances/{account}/{region}/{name}")
        times.append((perf_counter() - started) * 1000)
        assert (seen["name"], seen["protocols"]) == (name, ["ssh"])
    return times
