"""Whose folders are whose."""

import base64
import json
from pathlib import Path

import pytest

from broker.client.whose import person, service_url


def token(**claims: str) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{middle}.c2ln"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def test_people_are_told_apart_by_issuer_and_subject_and_a_renewed_token_is_the_same_person(
    environment: dict[str, str],
) -> None:
    def of(text: str) -> str:
        return person({**environment, "BROKER_TOKEN": text})

    alice = of(token(iss="https://id", sub="alice", exp="1"))
    assert alice == of(token(iss="https://id", sub="alice", exp="2"))
    assert len({alice, of(token(iss="https://id", sub="bob")), of(token(iss="https://other", sub="alice")), ""}) == 4


@pytest.mark.parametrize("text", ["opaque", "a.b.c", "a.bnVsbA.c", "..", token(sub="alice")])
def test_a_token_without_a_subject_stands_for_itself_and_is_not_repeated(
    text: str, environment: dict[str, str]
) -> None:
    found = person({**environment, "BROKER_TOKEN": text})

    assert len(found) == 64
    assert found != person({**environment, "BROKER_TOKEN": text + "x"})


def test_a_token_in_a_file_is_the_same_person(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token(iss="i", sub="s") + "\n")

    assert person({**environment, "BROKER_TOKEN_FILE": str(tmp_path / "token")}) == '["i", "s"]'
    assert person({**environment, "BROKER_TOKEN_FILE": str(tmp_path / "none")}) == ""


def test_without_a_token_it_is_who_logged_in(environment: dict[str, str], tmp_path: Path) -> None:
    assert (person(environment), service_url(environment)) == ("", "")
    (tmp_path / ".config" / "broker").mkdir(parents=True)
    index = {"last": "https://b", "services": {"https://b": {"issuer": "i", "subject": "s"}}}
    (tmp_path / ".config" / "broker" / "services.json").write_text(json.dumps(index))

    assert (person(environment), service_url(environment)) == ('["i", "s"]', "https://b")
    elsewhere = {**environment, "BROKER_URL": "https://c/"}
    assert (person(elsewhere), service_url(elsewhere)) == ("", "https://c")
    (tmp_path / ".config" / "broker" / "services.json").write_text("{")
    assert (person(environment), service_url(environment)) == ("", "")
