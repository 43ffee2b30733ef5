"""A disk that refuses, or loses, what a broker writes while it issues: some calls of each kind."""

from __future__ import annotations

import pytest

from tests.crash.faults import CLOSED, wrongs_of_failures
from tests.crash.ground import Ground
from tests.crash.points import Kind, Phase, Point, chosen, count_calls, wound, wrongs_after

pytestmark = [pytest.mark.real("strace"), pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

WRITE, SYNC = Kind(Phase.ISSUING, "pwrite64"), Kind(Phase.ISSUING, "fdatasync")


@pytest.mark.parametrize(
    ("kind", "error", "wanted"),
    [
        (WRITE, "EIO", 3),
        (SYNC, "EIO", 3),
        (WRITE, "ENOSPC", 3),
        (SYNC, "ENOSPC", 1),
        (WRITE, "EDQUOT", 1),
        (WRITE, "EROFS", 1),
    ],
    ids=str,
)
async def test_a_failed_call_refuses_and_what_was_answered_is_on_record(
    ground: Ground, kind: Kind, error: str, wanted: int
) -> None:
    total = (await count_calls(ground, Phase.ISSUING))[kind]
    points = [Point(kind, number) for number in chosen(kind, total, wanted)]
    assert await wrongs_of_failures(ground, points, error) == {}


async def test_after_a_failed_sync_nothing_is_issued_until_a_restart(ground: Ground) -> None:
    wounded = await wound(ground, Point(SYNC, 4), "EIO")
    assert (wounded.readiness, wounded.healed) == ((503, CLOSED), (503, CLOSED))
    assert [reply.status for reply in wounded.aftermath.replies] == [403, 201, *[503] * 5]
    assert await wrongs_after(ground, wounded.aftermath) == []


async def test_a_full_disk_is_told_and_forgotten_when_there_is_room_again(ground: Ground) -> None:
    wounded = await wound(ground, Point(WRITE, 40), "ENOSPC")
    refused = [reply.document["code"] for reply in wounded.aftermath.replies if reply.status == 503]
    assert refused == ["audit_unavailable"]
    assert [reply.status for reply in wounded.later] == [201]
    assert wounded.healed == (200, "")
    assert await wrongs_after(ground, wounded.aftermath) == []
