"""`make bench`: measure, print a table, write it and the plots into the documents.

Exits 1 when a part had no valid run (nothing is written of it) or issuing costs more than is recorded; a missed target
is a result like any other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

from benchmarks import documents, recorded
from benchmarks.goals import Outcome, table
from benchmarks.parts import PARTS
from benchmarks.profiles import PROFILES, Profile
from benchmarks.progress import say


def measured(name: str, profile: Profile) -> Outcome | None:
    """Run a part; answer nothing when its run was not valid."""
    say(f"{name} ({PARTS[name].goals}) ...")
    started = perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            outcome = asyncio.run(PARTS[name].measure(Path(folder), profile))
        except Exception as problem:  # noqa: BLE001 -- the other parts can be measured all the same
            say(f"{name}: NOT VALID: {type(problem).__name__}: {problem}")
            return None
    say(f"{name}: {perf_counter() - started:.0f} s")
    return outcome


def main(words: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    parts = "\n".join(f"  {name:<11} {part.goals:<9} about {part.seconds} s" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"parts, and how long they take in the quick profile:\n{parts}",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*PARTS, []], help="which ones; default: all")
    parser.add_argument("--profile", choices=PROFILES, default="quick", help="for how long (quick)")
    parser.add_argument("--rounds", type=int, help="alternating rounds of each comparison; default: the profile's")
    parser.add_argument("--print-only", action="store_true", help="leave the documents as they are")
    parser.add_argument("--record", action="store_true", help="from now on issuing may cost what it costs now")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    options = parser.parse_intermixed_args(words)
    profile = PROFILES[options.profile]
    profile = replace(profile, rounds=options.rounds or profile.rounds)
    outcomes = [measured(name, profile) for name in options.parts or PARTS]
    valid = [outcome for outcome in outcomes if outcome]
    figures = {name: figure for outcome in valid for name, figure in outcome.figures.items()}
    if options.record:
        recorded.record(figures)
    rows = [row for outcome in valid for row in outcome.rows]
    rows += recorded.against(figures, recorded.recorded())
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows]))
    print(f"\n{documents.machine()}, profile {profile.name}\n\n{table(rows)}")
    if not options.print_only and rows:
        documents.write(rows, [plot for outcome in valid for plot in outcome.plots], profile.name)
    for name in (dearer := recorded.dearer(rows)):
        say(f"{name}: dearer than recorded; make it cheaper, or say why and record it: make bench ARGS=--record")
    return int(bool(dearer) or len(valid) < len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
