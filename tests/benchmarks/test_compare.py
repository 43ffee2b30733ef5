import subprocess
import sys
from pathlib import Path

from benchmarks.compare import ROOT, compared, unpacked


def test_figures_are_compared_round_by_round() -> None:
    rounds = [({"G2 ssh": 2.0, "gone": 1.0}, {"G2 ssh": 1.0}), ({"G2 ssh": 4.0, "gone": 1.0}, {"G2 ssh": 3.0})]
    assert compared(rounds).splitlines()[2:] == ["| G2 ssh | 3 | 2 | 0.625 (0.500-0.750) |"]


def test_another_revision_is_itself_with_the_harness_of_this_one() -> None:
    with unpacked("HEAD") as tree:
        found = subprocess.run(
            [sys.executable, "-c", "import broker, benchmarks; print(broker.__file__, benchmarks.__file__)"],
            cwd=tree.folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        assert [Path(each).is_relative_to(tree.folder) for each in found] == [True, True]
        assert (tree.folder / "benchmarks/compare.py").read_text() == (ROOT / "benchmarks/compare.py").read_text()
    assert not tree.folder.exists()
