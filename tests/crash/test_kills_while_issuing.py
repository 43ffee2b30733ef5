"""`kill -9` inside the system calls of a broker that issues: some of each kind. All of them: `make test-long`."""

from __future__ import annotations

import pytest

from tests.crash.ground import Ground
from tests.crash.points import SOCKETS, STORAGE, Phase, some_points, survive

pytestmark = [pytest.mark.real("strace"), pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

FILES = {"pwrite64": 7, "fdatasync": 7, "fcntl": 3, "pread64": 1, "openat": 1, "close": 1, "read": 2, "write": 2}
WIRES = {"accept4": 2, "recvfrom": 4, "sendto": 5, "setsockopt": 1}


@pytest.mark.parametrize(("calls", "wanted"), [(STORAGE, FILES), (SOCKETS, WIRES)], ids=["files", "sockets"])
async def test_no_credential_is_out_without_its_event_and_no_event_is_lost(
    ground: Ground, calls: tuple[str, ...], wanted: dict[str, int]
) -> None:
    points = await some_points(ground, Phase.ISSUING, calls, wanted)
    assert len(points) >= sum(wanted.values())
    assert await survive(ground, points) == {}
