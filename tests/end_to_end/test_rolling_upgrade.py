"""Two versions side by side, and back again: one log, whichever of them writes.

The older one is the revision that BROKER_TEST_OLDER names, by default the commit before this one.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker import state
from broker.settings import load
from tests.architecture.source import ROOT
from tests.end_to_end.places import LINUX, Place, a_place

pytestmark = [pytest.mark.long, pytest.mark.real("postgresql")]

INSTANCES = [{**LINUX, "name": f"web-{number}"} for number in range(2)]
OLDER = "0.0.1"


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out the older revision; it calls itself by a version of its own, so that the log tells who wrote."""
    revision = os.environ.get("BROKER_TEST_OLDER", "HEAD~1")
    archive = subprocess.run(["git", "archive", revision, "broker"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"there is no {revision} here")
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    with (folder / "broker" / "__init__.py").open("a") as file:
        file.write(f'\n__version__ = "{OLDER}"\n')
    return folder


@pytest.fixture
async def place(tmp_path: Path, postgresql: str) -> AsyncIterator[Place]:
    (tmp_path / "one").mkdir()
    async with a_place(tmp_path / "one", INSTANCES) as place:
        place.environment |= {
            "BROKER__AUDIT__DATABASE": postgresql,
            "BROKER__AUDIT__SIGNING_KEY": "file:shared/audit.key",
            "BROKER__LIMITS__PER_CALLER_PER_MINUTE": "1000",
            "PYTHONSAFEPATH": "1",
            "PYTHONPATH": str(ROOT),
        }
        settings = load(place.folder / "broker.toml", place.environment)
        await asyncio.to_thread(lambda: list(state.create(settings)))
        yield place


def of(place: Place, code: Path, name: str) -> Place:
    """Lay out another replica, of another version."""
    folder = place.folder.with_name(name)
    shutil.copytree(place.folder, folder)
    return replace(place, folder=folder, environment={**place.environment, "PYTHONPATH": str(code)})


async def test_replicas_are_upgraded_one_by_one_and_go_back(place: Place, older: Path) -> None:
    first, second, before = of(place, older, "first"), of(place, older, "second"), of(place, older, "back")
    issued = 0
    async with first.serving() as one:
        async with second.serving() as two:
            answers = [(await each.issue("web-0"))[0] for each in (one, two)]
            assert await two.stop() == 0
        async with place.serving() as newer:  # beside the old one that is left
            pairs = [await asyncio.gather(one.issue("web-0"), newer.issue("web-1")) for _ in range(3)]
            answers += [status for pair in pairs for status, _ in pair]
            assert await one.stop() == 0
            answers += [(await newer.issue("web-0"))[0]]
            async with before.serving() as back:  # and back again
                pairs = [await asyncio.gather(back.issue("web-0"), newer.issue("web-1")) for _ in range(3)]
                answers += [status for pair in pairs for status, _ in pair]
                assert await back.stop() == 0
            assert await newer.stop() == 0
    assert set(answers) == {201}
    issued = len(answers)
    for each in (place, before):
        verified = await each.verify("--require-sealed")
        assert verified.code == 0, verified.out + verified.err
    events = await place.events()
    assert sum(event["event"] == "credential.issued" for event in events) == issued
    versions = [event["details"]["version"] for event in events if event["event"] == "service.started"]
    assert len(set(versions)) == 2
    assert versions.count(OLDER) == 3
