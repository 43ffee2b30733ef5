import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/broker.service"


def directives() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.real("systemd-analyze")
def test_the_unit_is_exposed_to_at_most_one_and_a_half_of_ten() -> None:
    result = analyze("security", "--offline=true", "--threshold=15", UNIT)  # the threshold counts in tenths
    assert result.returncode == 0, result.stdout
    assert "Overall exposure level" in result.stdout


@pytest.mark.real("systemd-analyze")
def test_an_unhardened_unit_would_not_pass(tmp_path: Path) -> None:
    bare = tmp_path / "bare.service"
    bare.write_text(f"[Service]\nExecStart={sys.executable}\n")
    assert analyze("security", "--offline=true", "--threshold=15", bare).returncode != 0


def complaints(unit: Path) -> str:
    """Ask systemd what it does not understand; its exit code says nothing about misspelt names."""
    result = analyze("verify", unit)
    return result.stdout + result.stderr


@pytest.mark.real("systemd-analyze")
def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "broker.service"
    text = UNIT.read_text().replace("/opt/broker/bin/broker", sys.executable)
    unit.write_text(text)
    assert complaints(unit) == ""
    unit.write_text(text.replace("LimitCORE=", "LimitCROE="))
    assert "LimitCROE" in complaints(unit)


def test_the_unit_starts_the_service_and_gives_it_time_to_drain() -> None:
    unit = directives()
    assert unit["ExecStart"] == ["/opt/broker/bin/broker serve --config /etc/broker/broker.toml"]
    assert int(unit["TimeoutStopSec"][0]) > 25


def test_the_unit_keeps_secrets_off_the_disk() -> None:
    unit = directives()
    assert unit["LimitCORE"] == ["0"]
    assert unit["MemorySwapMax"] == ["0"]
    assert unit["StateDirectoryMode"] == ["0700"]


def allowed_calls() -> set[str]:
    """Expand SystemCallFilter= with this systemd's own lists."""
    blocks = re.split(r"^(?=@)", analyze("syscall-filter").stdout, flags=re.MULTILINE)
    groups = {name: set(members) for name, *members in (re.sub(r"#.*", "", block).split() for block in blocks if block)}

    def expand(name: str) -> set[str]:
        return set().union(*map(expand, groups[name])) if name.startswith("@") else {name}

    allowed: set[str] = set()
    for value in directives()["SystemCallFilter"]:
        named = set().union(*map(expand, value.removeprefix("~").split()))
        allowed = allowed - named if value.startswith("~") else allowed | named
    return allowed


@pytest.mark.real("systemd-analyze", "strace")
def test_a_day_s_work_stays_within_the_system_calls_that_the_unit_allows(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    work = Path(__file__).with_name("everyday.py")
    subprocess.run(["strace", "-qq", "-f", "-o", trace, sys.executable, work], cwd=ROOT, check=True, timeout=60)
    text = trace.read_text()
    called = set(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE))
    assert {"mmap", "fdatasync", "bind", "execve", "prlimit64"} <= called
    assert called - allowed_calls() <= {"fchown"}  # SQLite, and only as root
    # MemoryDenyWriteExecute=: no memory is ever writable and executable, and none becomes executable later.
    assert re.findall(r"^.*PROT_WRITE\|PROT_EXEC.*$", text, re.MULTILINE) == []
    assert re.findall(r"^.*\bmprotect\(.*PROT_EXEC.*$", text, re.MULTILINE) == []
