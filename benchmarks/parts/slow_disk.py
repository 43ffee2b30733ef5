"""G4: what is kept of the throughput when every sync of the disk takes 10 ms longer, 128 requests at once.

strace makes the syncs slow, and watches the broker that is compared with too, so that its own cost is on both sides.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from benchmarks.goals import Outcome, Row, ratios
from benchmarks.profiles import Profile
from benchmarks.world import world

SYNCS = "fsync,fdatasync"
WATCHED = ("strace", "-D", "-qq", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={SYNCS}")
SLOWED = (*WATCHED, "-e", f"inject={SYNCS}:delay_exit=10000")
CONNECTIONS = 128


async def measure(folder: Path, profile: Profile) -> Outcome:
    """Measure two brokers in turns."""
    kept: list[list[float]] = [[], []]
    async with world(folder / "quick", under=WATCHED) as quick, world(folder / "slow", under=SLOWED) as slow:
        for _ in range(profile.rounds):
            for rates, scene in zip(kept, (quick, slow), strict=True):
                rates.append(await scene.peak(profile.seconds, CONNECTIONS))
    note = f"{median(kept[1]):.0f}/s against {median(kept[0]):.0f}/s, both under strace"
    return Outcome([Row("G4 slow disk", ratios(kept[1], kept[0]), 0.85, more_is_better=True, note=note)])
