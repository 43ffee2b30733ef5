from __future__ import annotations

import json
import re
import sqlite3
from argparse import ArgumentParser
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.audit.checkpoints import Signer, VerifierKey
from broker.audit.keyfiles import create_signing_key, load_signer, public_path
from broker.cli.audit import configure, run
from broker.errors import BrokerError
from broker.model import EVENTS, Caller, Event, InstanceRef
from tests.audit.conftest import ORIGIN, write_log
from tests.doubles.audit import an_event


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write settings, key and a log of five events."""
    path = tmp_path / "broker.toml"
    path.write_text(
        f'audit = {{origin = "{ORIGIN}"}}\n'
        'issuers = [{name = "corp", issuer = "https://id.example.com", audience = "b", jwks_file = "jwks.json"}]\n'
        'accounts = [{name = "main", regions = ["eu-west-1"]}]\n'
    )
    (tmp_path / "jwks.json").write_text('{"keys": []}')
    create_signing_key(tmp_path / "state" / "audit.key", ORIGIN)
    write_log(database_of(path), signer_of(path), [an_event(number=number) for number in range(5)])
    return path


def database_of(config: Path) -> Path:
    return config.parent / "state" / "audit.db"


def signer_of(config: Path) -> Signer:
    return load_signer(config.parent / "state" / "audit.key", ORIGIN)


def broker_audit(*words: str | Path) -> int:
    parser = ArgumentParser("broker audit")
    configure(parser)
    return run(parser.parse_args([str(word) for word in words]))


def test_a_clean_log_verifies_by_its_configuration(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert broker_audit("verify", "--config", config, "--require-sealed") == 0
    assert capsys.readouterr().out == f"clean: 5 events of {ORIGIN}, 5 under a checkpoint\n"


def test_a_database_verifies_by_a_pinned_key(config: Path) -> None:
    key = signer_of(config).verifier
    assert broker_audit("verify", "--database", database_of(config), "--key", str(key)) == 0
    public = public_path(config.parent / "state" / "audit.key")
    assert broker_audit("verify", "--database", database_of(config), "--key", f"@{public}") == 0


def test_a_tampered_log_names_class_and_index(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = database_of(config)
    database.write_bytes(database.read_bytes().replace(b'"request-3"', b'"request-4"', 1))
    assert broker_audit("verify", "--config", config, "--format", "json") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["findings"][0]["class"], report["findings"][0]["index"]) == ("edit", 3)
    assert report["clean"] is False


@pytest.mark.parametrize(
    "words",
    [
        ["--database", "missing.db", "--key", "nonsense"],
        ["--database", "missing.db"],
        ["--database", "missing.db", "--key", "@missing.pub"],
        ["--export", "missing.jsonl", "--key", f"{ORIGIN}+00000000+AAAA"],
    ],
)
def test_what_cannot_be_verified_exits_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert broker_audit("verify", *words) == 2
    assert "cannot verify" in capsys.readouterr().err


def test_the_wrong_key_is_never_a_clean_log(config: Path) -> None:
    wrong = create_signing_key(config.parent / "other.key", ORIGIN)
    assert broker_audit("verify", "--database", database_of(config), "--key", str(wrong)) == 1


def test_a_checkpoint_kept_elsewhere_reveals_a_rollback(config: Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer" / "audit.db"
    notes = write_log(longer, signer_of(config), [an_event(number=number) for number in range(9)])
    (tmp_path / "kept").write_text(notes[-1])
    assert broker_audit("verify", "--config", config, "--checkpoint", tmp_path / "kept") == 1


def test_the_newest_checkpoint_and_the_key_are_printed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert broker_audit("key", "--config", config) == 0
    key = VerifierKey.parse(capsys.readouterr().out)
    assert broker_audit("checkpoint", "--config", config) == 0
    assert key.open(capsys.readouterr().out).size == 5


def test_an_export_verifies_under_the_checkpoint_beside_it(config: Path, tmp_path: Path) -> None:
    export = tmp_path / "export.jsonl"
    assert broker_audit("export", "--config", config, "--output", export) == 0
    assert export.stat().st_mode & 0o777 == 0o600
    assert broker_audit("verify", "--config", config, "--export", export, "--require-sealed") == 0
    lines = export.read_bytes().splitlines(keepends=True)
    assert set(json.loads(lines[0])) == {"index", "leaf_hash", "leaf", "event"}
    export.write_bytes(b"".join(lines[:3]))
    assert broker_audit("verify", "--config", config, "--export", export) == 1
    (tmp_path / "export.jsonl.checkpoint").unlink()
    assert broker_audit("verify", "--config", config, "--export", export) == 2


def test_an_event_is_shown(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert broker_audit("show", "3", "--config", config) == 0
    assert json.loads(capsys.readouterr().out)["request_id"] == "request-3"
    assert broker_audit("show", "99", "--config", config) == 1


def test_events_are_searched(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        broker_audit("search", "--config", config, "--request-id", "request-3", "--since", "2026-01-01T00:00:00Z") == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "corp/alice" in lines[1]
    assert broker_audit("search", "--config", config, "--account", "main", "--limit", "2", "--format", "json") == 0
    assert [item["index"] for item in json.loads(capsys.readouterr().out)] == [4, 3]
    assert broker_audit("search", "--config", config, "--until", "2026-01-01T00:00:00Z", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == []


def write_more(config: Path, events: list[Event], seal_every: int = 0) -> None:
    """Put another log in the place of the one that the settings name."""
    database = database_of(config)
    for path in database.parent.glob("audit.db*"):
        path.unlink()
    write_log(database, signer_of(config), events, seal_every)


def unsealed_by(config: Path, notes: int) -> None:
    """Forget the newest checkpoints, so that the events after the one before them are sealed by none."""
    with closing(sqlite3.connect(database_of(config))) as connection, connection:
        newest = "SELECT size FROM checkpoints ORDER BY size DESC LIMIT ?"
        connection.execute(f"DELETE FROM checkpoints WHERE size IN ({newest})", (notes,))  # noqa: S608 -- a constant


@pytest.mark.parametrize(("count", "words"), [(1, "the last 1 of 5 events is"), (2, "the last 2 of 5 events are")])
def test_a_tail_that_must_be_sealed_and_is_not_has_a_verdict_of_its_own(
    count: int, words: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [an_event("keys.added", number=number) for number in range(5)]
    write_more(config, events, 5 - count)
    unsealed_by(config, 1)
    assert broker_audit("verify", "--config", config, "--require-sealed") == 1
    assert capsys.readouterr().out == f"NOT SEALED: {words} under no checkpoint\n"
    assert broker_audit("verify", "--config", config, "--require-sealed", "--format", "json") == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "not sealed"
    assert broker_audit("verify", "--config", config) == 0
    tail = words.replace(" of 5 events", "")
    assert capsys.readouterr().out.endswith(f"{5 - count} under a checkpoint; {tail} not sealed yet\n")


@pytest.mark.parametrize("content", [b"", b"not a note", b"origin\n5\nAAAA\n", b"\xff\xfe", b"a\n\n\xe2\x80\x94 b c\n"])
def test_what_is_no_checkpoint_at_all_is_a_slip_and_no_finding(
    content: bytes, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slip").write_bytes(content)
    assert broker_audit("verify", "--config", config, "--checkpoint", tmp_path / "slip") == 2
    shown, told = capsys.readouterr()
    assert shown == ""
    assert f"cannot verify: {tmp_path}/slip is not a checkpoint" in told


def test_a_checkpoint_of_another_key_is_a_finding(config: Path, tmp_path: Path) -> None:
    other = create_signing_key(tmp_path / "other.key", ORIGIN)
    assert other.name == ORIGIN
    (tmp_path / "note").write_text(load_signer(tmp_path / "other.key", ORIGIN).sign(0, bytes(32)))
    assert broker_audit("verify", "--config", config, "--checkpoint", tmp_path / "note") == 1


@pytest.mark.parametrize(("content", "says"), [(b"", "the file is empty"), (b"hello", "no SQLite database")])
def test_a_file_that_is_no_database_cannot_be_verified(
    content: bytes, says: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.db").write_bytes(content)
    key = str(signer_of(config).verifier)
    assert broker_audit("verify", "--database", tmp_path / "odd.db", "--key", key) == 2
    assert f"{tmp_path}/odd.db is not an audit log" in (told := capsys.readouterr().err)
    assert says in told


def test_slips_of_the_pen_are_answered_in_words(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = tmp_path / "pinned.key"
    pinned.write_text(str(signer_of(config).verifier))
    for words, says in (
        (("--config", config, "--export", "nope.jsonl"), "nope.jsonl: no such file"),
        (("--config", config, "--checkpoint", "nope.note"), "nope.note: no such file"),
        (("--database", "nope.db", "--key", f"@{pinned}"), "nope.db: no such file"),
        (("--database", database_of(config), "--key", pinned), f"did you mean @{pinned}?"),
        (("--database", database_of(config), "--key", "@nope.key"), "nope.key: no such file"),
    ):
        assert broker_audit("verify", *words) == 2
        told = capsys.readouterr().err
        assert says in told
        assert "Errno" not in told


def test_a_file_that_breaks_in_the_middle_says_how_far_it_was_read(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = tmp_path / "export.jsonl"
    assert broker_audit("export", "--config", config, "--output", export) == 0
    lines = export.read_bytes().splitlines(keepends=True)
    for changed, says in (
        (lines[:2] + lines[3:], "gap"),
        ([*lines[:2], b"{broken\n", *lines[3:]], "the line cannot be read: it is not JSON"),
    ):
        export.write_bytes(b"".join(changed))
        assert broker_audit("verify", "--config", config, "--export", export) == 1
        shown = capsys.readouterr().out
        assert says in shown
        assert "Expecting" not in shown
        assert f"TAMPERED: 2 events of {ORIGIN} were read before it broke, 0 under a checkpoint\n" in shown


def test_an_edited_record_does_not_end_the_reading(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = database_of(config)
    database.write_bytes(database.read_bytes().replace(b'"request-3"', b'"request-4"', 1))
    assert broker_audit("verify", "--config", config) == 1
    assert f"TAMPERED: 5 events of {ORIGIN}, 5 under a checkpoint\n" in capsys.readouterr().out
    assert broker_audit("verify", "--config", config, "--format", "json", "--require-sealed") == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "tampered"


def test_an_export_replaces_nothing_unless_forced(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = tmp_path / "export.jsonl"
    for there in (export, tmp_path / "export.jsonl.checkpoint"):
        there.write_text("mine")
        assert broker_audit("export", "--config", config, "--output", export) == 2
        assert f"{there} is there already" in capsys.readouterr().err
        assert there.read_text() == "mine"
        there.unlink()
    export.write_text("mine" * 10_000)
    assert broker_audit("export", "--config", config, "--output", export, "--force") == 0
    assert broker_audit("verify", "--config", config, "--export", export, "--require-sealed") == 0


def test_an_event_is_shown_with_what_is_read_first_in_front(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert broker_audit("show", "3", "--config", config) == 0
    assert list(json.loads(capsys.readouterr().out))[:5] == ["index", "time", "event", "outcome", "actor"]


def test_reading_is_an_event_and_reading_a_copy_is_none(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = database_of(config)
    before = database.read_bytes()
    assert broker_audit("search", "--database", database, "--actor", "corp/alice") == 0
    assert broker_audit("show", "3", "--database", database) == 0
    assert broker_audit("export", "--database", database) == 0
    assert database.read_bytes() == before
    assert broker_audit("search", "--config", config, "--actor", "alice", "--since", "2026-01-31") == 0
    assert broker_audit("show", "3", "--config", config) == 0
    assert broker_audit("export", "--config", config, "--format", "csv", "--outcome", "denied") == 0
    capsys.readouterr()
    details = []
    for name in ("audit.read", "audit.exported"):
        assert broker_audit("search", "--database", database, "--event", name, "--format", "json") == 0
        details += [item["details"] for item in json.loads(capsys.readouterr().out)]
    filters = [each["filters"] for each in details]
    assert filters == [["index=3"], ["actor=alice", "since=2026-01-31T00:00:00.000Z"], ["outcome=denied"]]
    assert details[2]["format"] == "csv"
    assert all(each["os_user"] for each in details)


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_search_says_when_there_is_more(form: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert broker_audit("search", "--config", config, "--limit", "4", "--format", form) == 0
    shown, told = capsys.readouterr()
    assert shown.count("request-") == (4 if form == "json" else 0)
    assert "more events fit; these are the newest 4" in told
    assert broker_audit("search", "--database", database_of(config), "--limit", "6", "--format", form) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--limit", "0"), "a number from 1 on"),
        (("--limit", "-3"), "a number from 1 on"),
        (("--outcome", "fine"), "invalid choice"),
        (("--event", "credential.isued"), "did you mean credential.issued?"),
        (("--event", "xyzzy"), "spool.rejected"),
        (("--since", "yesterday"), "write a date like 2026-11-23"),
        (("--since", "2026-11-23T09:30:00"), "with its zone"),
    ],
)
def test_a_search_that_cannot_be_meant_is_refused(
    words: tuple[str, ...], says: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        broker_audit("search", "--config", config, *words)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_every_event_that_operators_are_told_of_can_be_searched_for() -> None:
    guide = (Path(__file__).parents[2] / "docs/operating.md").read_text()
    table = guide.partition("## Events in the audit log")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    assert {name for cell in first_cells for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", cell)} == set(EVENTS)


def test_every_event_that_the_source_writes_can_be_searched_for() -> None:
    sources = "\n".join(path.read_text() for path in (Path(__file__).parents[2] / "broker").rglob("*.py"))
    written = set(re.findall(r'(?:\bevent=|_event\(|"event": )"([a-z_]+\.[a-z_]+)"', sources))
    assert len(written) > 6
    assert written <= set(EVENTS)


def found(capsys: pytest.CaptureFixture[str]) -> list[int]:
    return [item["index"] for item in json.loads(capsys.readouterr().out)]


def test_times_are_dates_moments_or_how_long_ago(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = ("search", "--database", database_of(config), "--format", "json")
    write_more(config, [an_event(number=number) for number in range(5)], 1)
    assert broker_audit(*search) == 0
    second = json.loads(capsys.readouterr().out)[3]["time"]
    days = (datetime.now(UTC) - datetime(2026, 1, 1, tzinfo=UTC)).days
    for since, count in (
        ("2026-01-31", 5),
        ("2026-02-01", 0),
        (second, 4),
        (second.replace("T09", "T10").replace("Z", "+01:00"), 4),
        (f"{days + 1}d", 5),
        ("1s", 0),
    ):
        assert broker_audit(*search, "--since", since) == 0
        assert len(found(capsys)) == count, since


def person(issuer: str) -> Caller:
    return Caller(
        issuer=issuer, subject="alice", kind="user", groups=(), token_id="0" * 16, token_expires_at=datetime.now(UTC)
    )


def test_short_names_are_completed_where_the_settings_tell(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = ("search", "--config", config, "--format", "json")
    for words in (("--actor", "alice"), ("--actor", "corp/alice"), ("--instance", "web-1")):
        assert broker_audit(*search, *words) == 0
        assert len(found(capsys)) == 5
    assert broker_audit(*search, "--actor", "mallory") == 0
    assert found(capsys) == []
    assert broker_audit("search", "--database", database_of(config), "--actor", "alice") == 2
    assert "--actor takes issuer/subject" in capsys.readouterr().err


def test_a_short_name_of_two_is_refused_with_both(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = config.read_text().replace('["eu-west-1"]', '["eu-west-1", "us-east-1"]')
    config.write_text(text)
    other = InstanceRef("main", "us-east-1", "web-1")
    write_more(config, [an_event(), an_event(instance=other), an_event(actor=person("ci"))])
    assert broker_audit("search", "--config", config, "--instance", "web-1") == 2
    assert "main/eu-west-1/web-1, main/us-east-1/web-1: name one" in capsys.readouterr().err
    assert broker_audit("search", "--config", config, "--instance", str(other), "--format", "json") == 0
    assert found(capsys) == [1]


def test_a_search_shows_why(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_more(
        config,
        [
            an_event(break_glass=True, ticket="OPS-1", reason="all is down"),
            an_event(ticket="", reason="", error="reason_required"),
            Event(
                event="authentication.failures", outcome="failure", details={"counts": {"expired": 3, "wrong_type": 1}}
            ),
        ],
    )
    assert broker_audit("search", "--config", config) == 0
    failures, refused, urgent = capsys.readouterr().out.splitlines()[1:]
    assert urgent.endswith("  BREAK-GLASS; OPS-1; all is down")
    assert refused.endswith("  reason_required")
    assert failures.endswith("  3 expired, 1 wrong_type")


def test_searching_a_log_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(BrokerError):
        broker_audit("search", "--database", tmp_path / "missing.db")
