from pathlib import Path

import pytest

from broker.cli.exits import Exit
from broker.cli.failures import explain
from broker.errors import AuditUnavailable, BrokerError, InvalidRequest
from broker.settings import SettingsError


class SettingsLikeError(Exception):
    problems = ("server.listen: write ADDRESS:PORT", "issuers: at least one")


@pytest.mark.parametrize(
    ("error", "exit_code", "said"),
    [
        (
            AuditUnavailable("state/audit.db: disk I/O error", next_step="look"),
            7,
            ["state/audit.db: disk I/O error", "  next: look"],
        ),
        (InvalidRequest(), 2, ["The request is not valid."]),
        (BrokerError(), 7, ["The broker failed."]),
        (SettingsLikeError(), 2, [*SettingsLikeError.problems]),
        (
            FileNotFoundError(2, "No such file or directory", "broker.toml"),
            2,
            ["broker.toml: No such file or directory"],
        ),
        (KeyError("s3cret"), 7, ["internal error: KeyError; BROKER_DEBUG=1 shows more"]),
        (
            ModuleNotFoundError("No module", name="broker.gone"),
            7,
            ["internal error: ModuleNotFoundError; BROKER_DEBUG=1 shows more"],
        ),
    ],
)
def test_every_error_is_a_sentence_and_an_exit_code(
    error: Exception, exit_code: int, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(error, "serve") == exit_code

    written = capsys.readouterr()
    assert (written.out, written.err) == ("", "".join(f"broker: {line}\n" for line in said))


def test_the_only_problem_of_the_settings_stands_beside_their_file(capsys: pytest.CaptureFixture[str]) -> None:
    explain(SettingsError(["server.listen: write text"], Path("broker.toml")), "serve")

    assert capsys.readouterr().err == "broker: broker.toml: server.listen: write text\n"


def test_a_missing_library_is_told_with_its_cure(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(ModuleNotFoundError("No module", name="aiohttp.web"), "serve") is Exit.USAGE

    said = capsys.readouterr().err
    assert "`broker serve`" in said
    assert "pip install 'lightsail-credential-broker[server]'" in said
