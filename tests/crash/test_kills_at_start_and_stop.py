"""`kill -9` inside the system calls by which a broker opens and closes its log: some of each kind."""

from __future__ import annotations

import pytest

from tests.crash.ground import Ground
from tests.crash.points import STORAGE, Phase, some_points, survive

pytestmark = [pytest.mark.real("strace"), pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

WANTED = {
    Phase.STARTING: {"pwrite64": 4, "fdatasync": 4, "fcntl": 2, "pread64": 1, "ftruncate": 1, "openat": 2},
    Phase.STOPPING: {"pwrite64": 4, "fdatasync": 3, "fcntl": 1, "pread64": 1, "ftruncate": 1},
}


@pytest.mark.parametrize("phase", WANTED)
async def test_a_log_that_is_being_opened_or_closed_survives(ground: Ground, phase: Phase) -> None:
    points = await some_points(ground, phase, STORAGE, WANTED[phase])
    assert len(points) >= sum(WANTED[phase].values())
    assert await survive(ground, points) == {}
