"""Plain ssh, scp, sftp, rsync and git by the block of `broker ssh-config`: real programs, a real sshd."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.client.ssh_hosts import CLOSED
from tests.doubles.client import Answer, Authority, instance, page, problem
from tests.real.door import ROUTE, Door, a_door

from .conftest import TOKEN

pytestmark = pytest.mark.real("sshd", "ssh", "ssh-keygen")


@pytest.fixture
def door(authority: Authority) -> Iterator[Door]:
    with tempfile.TemporaryDirectory(prefix="door-") as folder, a_door(Path(folder), authority, TOKEN) as opened:
        opened.open()
        install(opened)
        yield opened


def install(door: Door, *words: str) -> None:
    """Put the block at the top of the person's configuration."""
    printed = door.broker("ssh-config", *words)
    assert (printed.returncode, printed.stderr) == (0, "")
    door.config.write_text(printed.stdout + "Host *\n  LogLevel ERROR\n")


def listings(door: Door) -> int:
    return sum(seen.path == "/v1/instances" for seen in door.service.seen)


def test_plain_ssh_gets_in(door: Door) -> None:
    first, second = (door.run(["ssh", "web-1", "id -un"]) for _ in range(2))
    for ended in (first, second):
        assert (ended.returncode, ended.stdout) == (0, f"{door.sshd.user}\n"), ended.stderr
    assert second.stderr == ""
    assert door.asked() == [{"instance": "web-1", "protocol": "ssh"}]
    assert listings(door) == 1
    assert b"PRIVATE" not in b"".join(path.read_bytes() for path in door.kept())


def test_files_are_copied_by_scp_sftp_and_rsync(door: Door) -> None:
    there = door.folder / "there"
    there.mkdir()
    (door.folder / "file").write_text("content")
    config = ["-F", str(door.config)]
    copied = [door.run(["scp", "-q", *config, "file", f"web-1:{there}/scp"])]
    (door.folder / "batch").write_text(f"put file {there}/sftp\n")
    copied.append(door.run(["sftp", "-q", *config, "-b", "batch", "web-1"]))
    names = ["scp", "sftp"]
    if shutil.which("rsync"):
        copied.append(door.run(["rsync", "-e", "ssh", "file", f"web-1:{there}/rsync"]))
        names.append("rsync")

    assert [ended.returncode for ended in copied] == [0] * len(names), [ended.stderr for ended in copied]
    assert [(there / name).read_text() for name in names] == ["content"] * len(names)
    assert len(door.asked()) == 1


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_git_clones_from_an_instance(door: Door) -> None:
    subprocess.run(["git", "init", "-q", "--bare", door.folder / "there.git"], check=True)
    ended = door.run(["git", "clone", "-q", f"web-1:{door.folder}/there.git", "here"])

    assert ended.returncode == 0, ended.stderr
    assert (door.folder / "here" / ".git").is_dir()


def test_an_instance_can_be_named_with_its_place(door: Door) -> None:
    ended = door.run(["ssh", "main/eu-west-1/web-1", "echo in"])

    assert (ended.returncode, ended.stdout) == (0, "in\n"), ended.stderr
    (door.folder / "batch").write_text("pwd\n")
    listed = door.run(["sftp", "-q", "-F", door.config, "-b", "batch", "[main/eu-west-1/web-1]"])
    assert "Remote working directory" in listed.stdout, listed.stderr
    assert door.asked()[0]["instance"] == "main/eu-west-1/web-1"


def test_other_hosts_are_left_to_ssh_quickly_and_quietly(door: Door) -> None:
    assert door.run(["ssh", "web-1", "true"]).returncode == 0
    before = len(door.service.seen)
    for _ in range(3):
        shown = door.run(["ssh", "-G", "elsewhere"])
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "\nhostname elsewhere\n" in shown.stdout
    assert len(door.service.seen) == before


def test_without_a_service_other_hosts_work_as_before(door: Door) -> None:
    for changes in ({"BROKER_URL": "https://127.0.0.1:1"}, {"BROKER_URL": None}, {"BROKER_TOKEN": None}):
        shown = door.run(["ssh", "-G", "elsewhere"], **changes)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "\nhostname elsewhere\n" in shown.stdout


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (problem(403, "reason_required", "A reason is required."), "BROKER_REASON='…' in the environment of ssh"),
        (problem(409, "protocol_not_supported", "No."), "`broker rdp web-1`"),
        (problem(401, "invalid_token", "No."), "get a new token"),
        (problem(503, "overloaded", "Too much."), "overloaded"),
        (Answer({"ssh": {}}, 201), "stays closed"),
        (Answer(content=b"not JSON", status=200), "stays closed"),
    ],
)
def test_an_instance_that_is_refused_stays_closed_and_says_why(answer: Answer, said: str, door: Door) -> None:
    """Without that, ssh would go to whatever host has the name, with the person's own keys."""
    assert door.run(["ssh", "web-1", "true"]).returncode == 0
    shutil.rmtree(door.state)
    door.service.tell(ROUTE, answer)
    ended = door.run(["ssh", "web-1", "id"])

    assert (ended.returncode, ended.stdout) == (255, "")
    assert said in ended.stderr
    assert "web-1 stays closed to ssh; `broker doctor web-1` finds out why" in ended.stderr
    assert f"Could not resolve hostname {CLOSED}" in ended.stderr
    door.run(["ssh", "-o", "ProxyCommand=sh -c 'echo %h >through'", "web-1", "id"])
    assert (door.folder / "through").read_text() == f"{CLOSED}\n"


def test_an_instance_that_is_gone_leaves_its_name_to_others(door: Door) -> None:
    assert door.run(["ssh", "web-1", "true"]).returncode == 0
    shutil.rmtree(door.state)
    door.service.tell(ROUTE, problem(403, "denied", "Access is denied."))
    door.service.tell("GET /v1/instances", page(instance("web-2")))
    shown = door.run(["ssh", "-G", "web-1"])

    assert "\nhostname web-1\n" in shown.stdout
    assert shown.stderr == ""


def test_where_the_address_of_the_service_is_missing_an_instance_stays_closed(door: Door) -> None:
    assert door.run(["ssh", "web-1", "true"]).returncode == 0
    ended = door.run(["ssh", "web-1", "id"], BROKER_URL=None)

    assert (ended.returncode, ended.stdout) == (255, "")
    assert "BROKER_URL is not set" in ended.stderr
    assert CLOSED in ended.stderr


def test_reason_and_ticket_come_from_the_environment(door: Door) -> None:
    ended = door.run(["ssh", "web-1", "true"], BROKER_REASON="nightly backup", BROKER_TICKET="OPS-7")

    assert ended.returncode == 0
    assert door.asked()[0] == {
        "instance": "web-1",
        "protocol": "ssh",
        "reason": "nightly backup",
        "ticket": "OPS-7",
    }


def test_within_broker_ssh_the_block_has_nothing_left_to_do(door: Door) -> None:
    ended = door.broker("ssh", "web-1", "--reason", "x", "--", "echo in")

    assert (ended.returncode, ended.stdout) == (0, "in\n"), ended.stderr
    assert ended.stderr.count("is open until") == 1
    assert (len(door.asked()), listings(door)) == (1, 0)


def test_an_instance_can_be_the_way_to_another_by_a_jump(door: Door) -> None:
    door.service.tell("GET /v1/instances", page(instance("db-1"), instance("bastion")))
    with door.config.open("a") as config:
        config.write("Match originalhost db-*\n  ProxyJump bastion\n")
    token = door.folder / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    by_file = {"BROKER_TOKEN": None, "BROKER_TOKEN_FILE": str(token)}  # `broker ssh` hands no BROKER_TOKEN on
    for ended in (
        door.run(["ssh", "db-1", "echo in"], **by_file),
        door.broker("ssh", "db-1", "--", "echo in", **by_file),
    ):
        assert (ended.returncode, ended.stdout) == (0, "in\n"), ended.stderr
    assert {body["instance"] for body in door.asked()} == {"db-1", "bastion"}


def test_a_forwarded_agent_is_the_one_of_the_lease(door: Door) -> None:
    ended = door.run(["ssh", "-A", "web-1", "ssh-add -l"])

    assert ended.stdout.count("\n") == 1
    assert "web-1 by broker until" in ended.stdout


def test_an_instance_can_be_the_way_to_another(door: Door) -> None:
    door.service.tell("GET /v1/instances", page(instance("web-1"), instance("bastion")))
    ended = door.run(["ssh", "-o", "ProxyCommand=ssh bastion -W %h:%p", "web-1", "echo in"])

    assert (ended.returncode, ended.stdout) == (0, "in\n"), ended.stderr
    assert {body["instance"] for body in door.asked()} == {"web-1", "bastion"}


def test_many_at_once_share_one_credential(door: Door) -> None:
    processes = [
        subprocess.Popen(
            ["ssh", "web-1", "echo in"],
            env=door.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(10)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]

    assert outputs == ["in\n"] * 10
    assert len(door.asked()) == 1


@pytest.mark.parametrize("name", ["a'; touch TRACE; '", "$(touch TRACE)", "a`touch TRACE`", "we!rd", "a\ntouch TRACE"])
def test_a_hostile_name_runs_nothing(name: str, door: Door) -> None:
    install(door, "*")
    assert door.run(["ssh", name, "id"]).returncode == 255
    asked = door.broker("ssh-config", f"--match={name}")

    assert (asked.returncode, asked.stdout, asked.stderr) == (1, "", "")
    assert not (door.folder / "TRACE").exists()
    assert door.asked() == []


def test_the_block_starts_this_very_program(door: Door) -> None:
    program = Path(sys.executable).with_name("broker")
    if not program.exists():
        pytest.skip("the command is not installed")
    printed = door.run([program, "ssh-config"]).stdout

    assert f'exec "{program} ssh-config ' in printed
    assert re.search(r'Include "/.*/ssh/\*\.conf"', printed)


def test_a_pattern_that_is_none_is_wrong_usage(door: Door) -> None:
    ended = door.broker("ssh-config", "a'b")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "is no pattern" in ended.stderr


def test_a_file_that_cannot_be_written_closes_the_instance(door: Door) -> None:
    (door.folder / ".local" / "state" / "broker").mkdir(0o700, parents=True)
    (door.folder / ".local" / "state" / "broker" / "ssh").write_text("in the way")
    ended = door.run(["ssh", "web-1", "id"])

    assert (ended.returncode, ended.stdout) == (255, "")
    assert f"Could not resolve hostname {CLOSED}" in ended.stderr
