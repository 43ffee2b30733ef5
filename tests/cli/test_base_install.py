"""The base install is enough for everybody who is not the service: nothing else is imported by their commands."""

from pathlib import Path

import pytest

from tests.doubles.client import Answer, ServiceDouble, instance, page, problem, ssh_credential

from .conftest import Terminal

ONLY = """\
import sys
allowed = sys.stdlib_module_names | {"broker", "cryptography", "_cffi_backend", "yaml", "_yaml", "_distutils_hack"}


class OnlyTheBase:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed and not name.startswith("__editable__"):
            raise ModuleNotFoundError(f"not in the base install: {name}", name=name)


sys.meta_path.insert(0, OnlyTheBase())
"""
COMMANDS = [
    (["get", "web-1"], 0),
    (["get", "web-1", "--output", "keys"], 0),
    (["exec", "web-1", "--", "true"], 0),
    (["ls"], 0),
    (["ls", "--format", "yaml"], 0),
    (["ls", "--format", "ansible"], 0),
    (["leases"], 0),
    (["hosts", "ls"], 0),
    (["blueprints"], 0),
    (["bundles", "--format", "json"], 0),
    (["whoami"], 0),
    (["logout"], 0),
    (["login"], 7),
    (["ssh-config"], 0),
    (["ssh", "win-1"], 2),
    (["rdp", "win-1"], 2),
    (["doctor", "web-1"], 1),
    (["completion", "bash"], 0),
    (["complete", "bash", "broker", "l"], 0),
]


ME: dict[str, object] = {
    "issuer": "corp",
    "subject": "alice",
    "kind": "user",
    "groups": [],
    "email": None,
    "mfa": False,
    "bound": False,
    "authenticated_at": None,
    "token_expires_at": "2030-01-01T00:00:00.000Z",
    "token_id": "0",
}


@pytest.mark.parametrize(("words", "code"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_a_command_of_the_client_needs_nothing_else(
    words: list[str], code: int, terminal: Terminal, service: ServiceDouble, tmp_path: Path
) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "sitecustomize.py").write_text(ONLY)
    for route in ("instances", "leases", "hosts", "blueprints", "bundles"):
        service.tell(f"GET /v1/{route}", page(instance("web-1")) if route == "instances" else page())
    refused = problem(409, "protocol_not_supported") if words[-1] == "win-1" else Answer(ssh_credential(), 201)
    service.tell("POST /v1/credentials", refused)
    service.tell("GET /v1/whoami", Answer(ME))
    path = f"{tmp_path / 'only'}:{Path(__file__).parents[2]}"
    ended = terminal.broker(*words, PYTHONPATH=path, XDG_RUNTIME_DIR=None)
    assert "not in the base install" not in ended.stdout + ended.stderr
    assert "needs the service's libraries" not in ended.stderr
    assert ended.returncode == code, ended.stdout + ended.stderr


def test_a_command_of_the_service_does_and_says_so(terminal: Terminal, tmp_path: Path) -> None:
    """The control: what is not in the base install is really out of reach."""
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "sitecustomize.py").write_text(ONLY)
    path = f"{tmp_path / 'only'}:{Path(__file__).parents[2]}"
    ended = terminal.broker("serve", "--config", "none.toml", PYTHONPATH=path)
    assert "needs the service's libraries" in ended.stderr
