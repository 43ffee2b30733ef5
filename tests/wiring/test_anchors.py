"""Every kind of anchor is opened from the settings, and `check` says of each how the log stands to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker import state, wiring
from broker.audit.review import Review
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.cli.main import main
from broker.settings import SettingsError, load
from tests.wiring.test_service import SETTINGS

KEY = "witness.example.com/w1+42a5bbf7+BEQpkwZQBKoeTEj03QFYGUwCNJvMZkzZbkAOommRio1R"
ANCHORS = f"""
[[audit.anchors]]
name = "vault"
kind = "file"
path = "anchor.notes"
[[audit.anchors]]
name = "bucket"
kind = "s3"
bucket = "anchors"
region = "eu-west-1"
endpoint_url = "http://127.0.0.1:9"
required = true
[[audit.anchors]]
name = "siem"
kind = "syslog"
address = "udp://127.0.0.1:9"
[[audit.anchors]]
name = "witness"
kind = "witness"
url = "http://127.0.0.1:9"
key = "{KEY}"
path = "cosigned.notes"
allow_private = true
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    (tmp_path / "broker.toml").write_text(SETTINGS + ANCHORS)
    (tmp_path / "jwks.json").write_text('{"keys": []}')
    (tmp_path / "policies").mkdir()
    list(state.create(load(tmp_path / "broker.toml", {})))
    return tmp_path / "broker.toml"


async def test_each_kind_is_compared_as_far_as_it_can_be_reached(config: Path) -> None:
    settings = load(config, {})
    review = Review(lambda: SqliteReader(config.parent / "state" / "audit.db"))
    async with wiring.anchors(settings, review) as anchors:
        found = {each.place.name: (each.contradiction, each.hindrance) for each in await anchors.compare()}
    await review.close()
    assert found == {
        "vault": ("", ""),
        "bucket": ("", "ListObjectVersions: EndpointConnectionError"),
        "siem": ("", ""),
        "witness": ("", "ClientConnectorError"),
    }


def test_check_calls_it_a_problem_where_it_is_required(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "--config", str(config)])
    lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines() if "anchors" in line]
    assert ["PROBLEM", "anchors", "bucket: ListObjectVersions: EndpointConnectionError"] in lines
    assert ["note", "anchors", "witness: ClientConnectorError"] in lines


async def test_a_key_that_is_none_of_a_witness_is_a_mistake_in_the_settings(config: Path) -> None:
    write(config, config_text(config).replace(KEY, KEY.replace("w1+", "w2+")))
    review = Review(lambda: SqliteReader(config.parent / "state" / "audit.db"))
    with pytest.raises(SettingsError, match=r"audit\.anchors: witness: key: not a verifier key of a witness"):
        async with wiring.anchors(load(config, {}), review):
            raise AssertionError


def config_text(config: Path) -> str:
    return config.read_text()


def write(config: Path, text: str) -> None:
    config.write_text(text)
