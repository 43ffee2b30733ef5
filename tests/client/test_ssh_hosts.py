"""The block for ~/.ssh/config: the real ssh reads it, and no name makes it run anything."""

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from broker.client import ssh_hosts
from broker.client.errors import Misconfigured

from .test_ssh import lease

# What a shell would do something about, each with a trace that it would leave.
HOSTILE = [
    "a'; touch TRACE; '",
    'a"; touch TRACE; "',
    "a$(touch TRACE)",
    "a`touch TRACE`",
    "a; touch TRACE",
    "a && touch TRACE",
    "a | touch TRACE",
    "a\ntouch TRACE\n",
    "a\\'; touch TRACE; '",
    "a' \\; touch TRACE",
    "${IFS}touch${IFS}TRACE",
    "!touch TRACE",
    "a>TRACE",
    "'$(touch TRACE)'",
    "%n'; touch TRACE; '",
]
SHELLS = [shell for shell in ("sh", "bash", "dash", "zsh", "fish", "csh", "tcsh", "ksh") if shutil.which(shell)]


def asked(config: str, name: str, folder: Path, **environment: str) -> list[str]:
    """Let the real ssh read the block for a host of this name; answer the names that the command was asked about."""
    path = folder / "config"
    path.write_text(config)
    subprocess.run(
        ["ssh", "-F", path, "-G", name],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "SHELL": "/bin/sh", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    log = folder / "asked"
    return log.read_text().splitlines() if log.exists() else []


def recorder(folder: Path) -> str:
    """Write a command that notes what it is asked."""
    program = folder / "record it"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >>{shlex.quote(str(folder))}/asked\nexit 1\n")
    program.chmod(0o700)
    return shlex.quote(str(program))


@pytest.mark.real("ssh")
@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_makes_ssh_run_anything(name: str, tmp_path: Path) -> None:
    """CVE-2023-51385. New versions of ssh refuse such names themselves; ours must hold for all of them."""
    block = ssh_hosts.config(["*"], recorder(tmp_path), tmp_path / "files")
    asked(block, name, tmp_path)

    assert not (tmp_path / "TRACE").exists()
    assert asked(block, "good", tmp_path)[-1] == "--match=good"  # it is run at all


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", HOSTILE)
def test_what_the_patterns_let_through_is_harmless_in_every_shell(name: str, shell: str, tmp_path: Path) -> None:
    """As an ssh would that looks at no name itself: the patterns first, then the shell."""
    if any(character in name for character in "'\\!:"):
        return  # held back by a pattern, see the test below
    subprocess.run(
        [shell, "-c", f"{recorder(tmp_path)} --match='{name}'"], cwd=tmp_path, capture_output=True, check=False
    )
    assert not (tmp_path / "TRACE").exists()


@pytest.mark.real("ssh")
@pytest.mark.parametrize("name", ["we!rd", "a:b", "!x", "2001:db8::1"])
def test_a_name_with_what_a_shell_may_heed_does_not_reach_it(name: str, tmp_path: Path) -> None:
    block = ssh_hosts.config(["*"], recorder(tmp_path), tmp_path / "files")

    assert asked(block, name, tmp_path) == []
    assert asked(block, "good", tmp_path) == ["--match=good"]


@pytest.mark.real("ssh")
def test_quotes_and_backslashes_are_held_back_by_the_block_itself(tmp_path: Path) -> None:
    """No such host name gets past ssh, but a user's name does; so the patterns are held against that."""
    block = ssh_hosts.config(["*"], recorder(tmp_path), tmp_path / "files").replace("Match originalhost", "Match user")
    for user in ("a'b", "a\\b", "a!b", "good"):
        path = tmp_path / "config"
        path.write_text(block)
        subprocess.run(
            ["ssh", "-F", path, "-G", "-o", f'User="{user.replace(chr(92), chr(92) * 2)}"', "host"],
            capture_output=True,
            check=False,
        )

    assert (tmp_path / "asked").read_text().splitlines() == ["--match=host"]


@pytest.mark.real("ssh")
@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    [
        ([], "web-1", True),
        ([], "main/eu-west-1/web-1", True),
        ([], "github.com", False),
        ([], "192.0.2.1", False),
        (["!web-9"], "web-9", False),
        (["!web-9"], "web-8", True),
        (["web-*", "!web-9"], "web-1", True),
        (["web-*", "!web-9"], "web-9", False),
        (["web-*"], "db-1", False),
        (["*.shop"], "till.shop", True),
    ],
)
def test_only_names_that_may_be_instances_are_asked_about(
    patterns: list[str],
    name: str,
    *,
    expected: bool,
    tmp_path: Path,
) -> None:
    block = ssh_hosts.config(patterns, recorder(tmp_path), tmp_path / "files")

    assert bool(asked(block, name, tmp_path)) is expected


@pytest.mark.parametrize("pattern", ["a'b", 'a"b', "a b", "a,b", "", "!", "$(id)", "a\nHost *", "a%n"])
def test_a_pattern_that_is_none_is_refused(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="is no pattern"):
        ssh_hosts.config([pattern], "broker", tmp_path)


@pytest.mark.parametrize("folder", ['/a"b', "/a\\b", "/a*b", "/a[b]", "/a\nb"])
def test_a_folder_that_ssh_cannot_be_told_is_refused(folder: str) -> None:
    with pytest.raises(Misconfigured, match="ssh cannot be told"):
        ssh_hosts.config([], "broker", Path(folder))


@pytest.mark.real("ssh")
def test_a_path_with_spaces_and_percent_signs_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "100% of it"
    folder.mkdir()
    block = ssh_hosts.config([], recorder(folder), folder / "files")

    assert asked(block, "web-1", folder) == ["--match=web-1"]


def read(config: str, name: str, folder: Path) -> dict[str, str]:
    path = folder / "config"
    path.write_text(config)
    shown = subprocess.run(["ssh", "-F", path, "-G", name], capture_output=True, text=True, check=True).stdout
    return dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)


@pytest.mark.real("ssh")
def test_an_instance_that_is_open_is_read_from_its_file_and_the_others_are_closed(tmp_path: Path) -> None:
    files = tmp_path / "files"
    ssh_hosts.write("web-1", lease(), files)
    ssh_hosts.write("web-2", lease(host="203.0.113.8"), files)
    block = ssh_hosts.config([], "true", files) + "Port 77\nHost other\n  User x\n"

    assert read(block, "web-1", tmp_path)["hostname"] == "203.0.113.7"
    assert read(block, "web-2", tmp_path)["hostname"] == "203.0.113.8"
    closed = read(block, "web-3", tmp_path)
    assert (closed["hostname"], closed["stricthostkeychecking"]) == (ssh_hosts.CLOSED, "true")
    ssh_hosts.close("web-2", files)
    assert read(block, "web-2", tmp_path)["hostname"] == ssh_hosts.CLOSED


@pytest.mark.real("ssh")
def test_what_follows_the_block_holds_as_before(tmp_path: Path) -> None:
    block = ssh_hosts.config([], "false", tmp_path / "files") + "Port 77\nHost other\n  User x\n"

    assert read(block, "web-1", tmp_path)["hostname"] == "web-1"
    assert (read(block, "other", tmp_path)["port"], read(block, "other", tmp_path)["user"]) == ("77", "x")


def test_files_of_long_ago_are_removed(tmp_path: Path) -> None:
    ssh_hosts.write("web-1", lease(), tmp_path / "files")
    (old,) = (tmp_path / "files").iterdir()
    past = time.time() - 90_000
    os.utime(old, (past, past))
    ssh_hosts.write("web-2", lease(), tmp_path / "files")

    assert len(list((tmp_path / "files").iterdir())) == 1
    assert not old.exists()
