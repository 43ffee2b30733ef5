"""That the harness runs: one part each time, all in the long run. What they say is for `make bench` to judge."""

import json
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.__main__ import main
from benchmarks.bulk import make
from benchmarks.parts import PARTS
from broker.audit.checkpoints import Signer
from broker.audit.ledger import Ledger
from broker.audit.rebuilding import rebuild
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.audit.verification import verify_database
from broker.model import utc_now

ROOT = Path(__file__).parents[2]


def goals(file: Path) -> set[str]:
    return {str(row["goal"]) for row in json.loads(file.read_text())}


def test_a_part_runs_and_changes_no_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/performance.md").read_text()
    assert main(["records", "--profile=tiny", "--print-only", f"--json={tmp_path / 'rows'}"]) == 0
    assert goals(tmp_path / "rows") == {"G7 records"}
    assert "| G7 records |" in capsys.readouterr().out
    assert (ROOT / "docs/performance.md").read_text() == page


def test_every_goal_has_a_part_and_a_line_on_the_page() -> None:
    named = {goal for part in PARTS.values() for goal in re.findall(r"G\d+", part.goals)}
    assert named == {f"G{number}" for number in range(1, 15)}
    explained = (ROOT / "docs/performance.md").read_text()
    assert [
        goal for goal in sorted(named) if not re.search(rf"^\| ([\w, ]+, )?{goal}\b", explained, re.MULTILINE)
    ] == []


@pytest.mark.parametrize("events", [2, 1999, 2000])  # the last event is a request, its answer, a denial
def test_a_log_made_fast_is_one_that_a_service_would_have_written(tmp_path: Path, events: int) -> None:
    path, signer = tmp_path / "audit.db", Signer("bench.example/audit", Ed25519PrivateKey.generate())
    make(path, signer, events)
    report = verify_database(path, signer.verifier, ())
    assert (report.size, report.sealed, report.findings) == (events, events, ())
    reader = SqliteReader(path)
    assert rebuild(reader).differences == []
    reader.close()
    ledger = Ledger(SqliteStore(path), signer, utc_now)
    ledger.open()
    ledger.close()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.real("strace", "aws")
@pytest.mark.parametrize("part", PARTS)
def test_every_part_runs(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    assert main([part, "--profile=tiny", "--print-only", f"--json={tmp_path / 'rows'}"]) == 0
