from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path

import pytest

from broker.audit.checkpoints import Signer, VerifierKey
from broker.audit.keyfiles import create_signing_key, load_signer, public_path
from broker.cli.audit import configure, run
from broker.errors import BrokerError
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
    assert broker_audit("show", "5", "--config", config) == 1


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


def test_searching_a_log_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(BrokerError):
        broker_audit("search", "--database", tmp_path / "missing.db")
