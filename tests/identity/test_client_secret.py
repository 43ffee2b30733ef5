"""The secret by which the console is known to the identity provider."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.identity.provider_login import BadClientSecret, load_client_secret

SECRET = "c0nsole-client-secret"


def revealed(source: str, environment: dict[str, str] | None = None) -> str:
    secret = load_client_secret(source, environment or {})
    assert secret
    return secret.reveal()


def test_it_comes_from_a_private_file_or_the_environment_and_leaves_that(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    environment = {"CLIENT": f"{SECRET} ", "OTHER": "x"}
    assert revealed(f"file:{path}") == revealed("env:CLIENT", environment) == SECRET
    assert environment == {"OTHER": "x"}


def test_a_public_client_has_none() -> None:
    assert load_client_secret("") is None


def test_one_that_others_can_read_or_that_is_not_there_is_refused_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with pytest.raises(BadClientSecret, match="No such file"):
        load_client_secret(f"file:{path}")
    path.write_text(SECRET)
    path.chmod(0o644)
    with pytest.raises(BadClientSecret, match="chmod 600") as problem:
        load_client_secret(f"file:{path}")
    assert SECRET not in str(problem.value)
    for content in (b" \n", b"\xff\xfe"):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(BadClientSecret, match="holds no secret"):
            load_client_secret(f"file:{path}")
    with pytest.raises(BadClientSecret, match="CLIENT holds no secret"):
        load_client_secret("env:CLIENT", {})
