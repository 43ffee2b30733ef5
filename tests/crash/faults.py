"""What must hold after a system call failed under a broker that goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

from tests.crash.ground import Ground
from tests.crash.points import Point, Wounded, wound, wrongs_after

CLOSED = "A write failed; the log is closed until the broker is restarted."
REFUSED = "The last write was refused, for instance because the disk is full."
GONE = "The disk does not answer."


async def wrongs_of_failures(ground: Ground, points: Sequence[Point], error: str) -> dict[str, list[str]]:
    """Let each call fail in a broker of its own, then restart that; answer what is wrong, by point."""
    wrongs: dict[str, list[str]] = {}
    for point in points:
        wounded = await wound(ground, point, error)
        found = [*_wrongs_of(wounded), *(await wrongs_after(ground, wounded.aftermath))]
        if found:
            wrongs[f"{point} {error}"] = found
        shutil.rmtree(wounded.aftermath.folder)
    return wrongs


def _wrongs_of(wounded: Wounded) -> Iterator[str]:
    replies = wounded.aftermath.replies
    if wounded.aftermath.status:
        yield f"it ended with {wounded.aftermath.status}"
    for reply in replies:
        if reply.status not in {201, 403, 409, 503}:
            yield f"{reply.instance}: answered {reply.status}"
        if reply.status == 503 and reply.document.get("code") != "audit_unavailable":
            yield f"{reply.instance}: refused as {reply.document.get('code')}"
    if wounded.healed == (503, CLOSED):
        if any(reply.status != 503 for reply in wounded.later):
            yield "the log is closed, and yet there was an answer"
    elif wounded.healed != (200, ""):
        yield f"it is not well again, and does not say that it must be restarted: {wounded.healed}"
    elif any(reply.status != 201 for reply in wounded.later):
        yield "all is well, and yet nothing is issued"
