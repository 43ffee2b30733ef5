import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, project_files

LOCKS = sorted(ROOT.glob("requirements*.lock"))
PIN = re.compile(r"([a-z0-9-]+)==([^ ]+)( ; [^\\]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)")


def text_of(path: Path) -> str:
    """Read a file as text; what is not UTF-8 says nothing."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def pins(lock: Path) -> dict[str, str]:
    return {name: version for name, version, _, _ in PIN.findall(lock.read_text())}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_is_nothing_but_pins_with_their_hashes(lock: Path) -> None:
    assert PIN.sub("", lock.read_text()).strip() == ""


def test_the_locks_agree_with_each_other() -> None:
    assert [lock.name for lock in LOCKS] == ["requirements-build.lock", "requirements-dev.lock", "requirements.lock"]
    build, dev, run = map(pins, LOCKS)
    assert build.items() <= dev.items()
    assert run.items() <= dev.items()


def test_everything_that_the_project_asks_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["server"]]
    names = {re.split(r"[^a-z0-9-]", requirement, maxsplit=1)[0] for requirement in wanted}
    assert names <= set(pins(ROOT / "requirements.lock"))


def test_no_file_names_a_package_index() -> None:
    index = re.compile(
        r"--(extra-)?index-url[ =]\S|--find-links[ =]\w*[:/]|/simple/?[\"'\s]|registry\.npm|pypi\.(org|python)"
    )
    guilty = [path for path in project_files() if path != Path(__file__) and index.search(text_of(path))]
    assert guilty == []


def test_no_file_names_a_place_on_the_machine_it_was_written_on() -> None:
    place = re.compile(r"(?<![\w.$}-])/(root|work|Users|home/[a-z]\w*)/")
    guilty = [path for path in project_files() if path != Path(__file__) and place.search(text_of(path))]
    assert guilty == []


def test_a_package_lock_pins_by_integrity_and_names_no_registry() -> None:
    for path in (path for path in project_files() if path.name == "package-lock.json"):
        packages = json.loads(path.read_text())["packages"]
        assert all("resolved" not in package for package in packages.values())
        assert all("integrity" in package for name, package in packages.items() if name)


def test_no_private_key_and_no_access_token_is_kept_in_the_project() -> None:
    secret = re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}|\bAKIA[A-Z2-7]{16}\b|\beyJ[\w-]{20,}\.eyJ"
    )
    guilty = [path for path in project_files() if secret.search(text_of(path))]
    assert guilty == []


def test_every_script_says_how_it_is_run() -> None:
    scripts = [path for path in project_files() if path.stat().st_mode & 0o100]
    assert scripts
    assert [path for path in scripts if not text_of(path).startswith("#!/")] == []
