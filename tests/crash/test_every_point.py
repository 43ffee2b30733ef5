"""All system calls by which a broker starts, issues and stops, one after the other: killed, failing, out of space.

Minutes long, so left out unless it is asked for: `make test-long`.
"""

from __future__ import annotations

import pytest

from tests.crash.faults import wrongs_of_failures
from tests.crash.ground import Ground
from tests.crash.points import SOCKETS, STORAGE, Phase, every_point, survive

pytestmark = [
    pytest.mark.long,
    pytest.mark.real("strace"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
]

SHARES = [
    *((Phase.ISSUING, STORAGE, share, 14, 28) for share in range(14)),
    *((Phase.ISSUING, SOCKETS, share, 4, 20) for share in range(4)),
    *((Phase.STARTING, STORAGE, share, 5, 24) for share in range(5)),
    *((Phase.STOPPING, STORAGE, share, 3, 24) for share in range(3)),
]
"""Phase, calls, which share of them, of how many, and how many points it has at least: 664 in all."""


@pytest.mark.parametrize(("phase", "among", "share", "shares", "least"), SHARES)
async def test_killed_anywhere_it_keeps_its_promises(
    ground: Ground, phase: Phase, among: tuple[str, ...], share: int, shares: int, least: int
) -> None:
    points = (await every_point(ground, phase, among))[share::shares]
    assert len(points) >= least
    assert await survive(ground, points) == {}


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("share", range(3))
async def test_failing_anywhere_it_keeps_its_promises(ground: Ground, error: str, share: int) -> None:
    every = await every_point(ground, Phase.ISSUING, ("pwrite64", "fdatasync", "pread64"))
    synced = [point for point in every if point.kind.call != "pwrite64"]
    written = [point for point in every if point.kind.call == "pwrite64"][::6]
    assert await wrongs_of_failures(ground, [*synced, *written][share::3], error) == {}
