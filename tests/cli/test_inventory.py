"""The inventory, read by the real Ansible."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.cli.inventory import inventory
from tests.doubles.client import Authority, instance, page
from tests.real.door import Door, a_door

from .conftest import TOKEN

ANSIBLE = Path(sys.executable).parent
ansible = pytest.mark.skipif(not (ANSIBLE / "ansible").exists(), reason="ansible is not installed")


@pytest.fixture
def door(authority: Authority) -> Iterator[Door]:
    with tempfile.TemporaryDirectory(prefix="door-") as folder, a_door(Path(folder), authority, TOKEN) as opened:
        opened.open()
        yield opened


def run_ansible(door: Door, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of Ansible's with the person's ssh; it looks for it on PATH."""
    home = {"ANSIBLE_HOME": str(door.folder / "a"), "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_NOCOLOR": "1"}
    return door.run([ANSIBLE / program, *words], LC_ALL="C.UTF-8", **home)


def write(door: Door, *instances: Any) -> Any:
    """Write the inventory to `inventory.yaml` as a person would; answer it."""
    door.service.tell("GET /v1/instances", page(*instances))
    ended = door.broker("ls", "--format", "ansible")
    assert (ended.returncode, ended.stderr) == (0, "")
    (door.folder / "inventory.yaml").write_text(ended.stdout)
    return yaml.safe_load(ended.stdout)


@pytest.mark.real("sshd", "ssh", "ssh-keygen")
@ansible
def test_ansible_reaches_the_instances_by_the_block(door: Door) -> None:
    door.config.write_text(door.broker("ssh-config").stdout)
    write(door, instance("web-1"), instance("web-2", tags={"env": "dev"}))
    ended = run_ansible(door, "ansible", "all", "-i", "inventory.yaml", "-m", "raw", "-a", "id -un")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert sorted(line for line in ended.stdout.splitlines() if "|" in line) == [
        "web-1 | CHANGED | rc=0 >>",
        "web-2 | CHANGED | rc=0 >>",
    ]
    assert ended.stdout.count(f"\n{door.sshd.user}\n") == 2
    assert {body["instance"] for body in door.asked()} == {"web-1", "web-2"}
    assert len(door.asked()) == 2


@pytest.mark.real("sshd", "ssh", "ssh-keygen")
@ansible
def test_ansible_copies_files_and_runs_modules_by_the_block(door: Door) -> None:
    door.config.write_text(door.broker("ssh-config").stdout)
    write(door, instance("web-1"))
    (door.folder / "file").write_text("content")
    words = ["tag_env_prod", "-i", "inventory.yaml", "-e", f"ansible_python_interpreter={sys.executable}"]
    ended = run_ansible(door, "ansible", *words, "-m", "copy", "-a", f"src=file dest={door.folder}/copied")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (door.folder / "copied").read_text() == "content"


@pytest.mark.real("sshd", "ssh-keygen")
@ansible
def test_ansible_reads_groups_and_variables(door: Door) -> None:
    windows = instance("win-1", platform="WINDOWS", protocols=["rdp"], tags={})
    twin = {"account": "other", "region": "us-east-1"}
    write(door, instance("web-1"), windows, instance("twin", tags={}), instance("twin", tags={"a b": "ü"}, **twin))
    ended = run_ansible(door, "ansible-inventory", "-i", "inventory.yaml", "--list")

    assert ended.returncode == 0, ended.stderr
    assert "WARNING" not in ended.stderr, ended.stderr
    read = json.loads(ended.stdout)
    assert sorted(read["linux"]["hosts"]) == ["main/eu-west-1/twin", "other/us-east-1/twin", "web-1"]
    assert (read["windows"]["hosts"], read["tag_env_prod"]["hosts"]) == (["win-1"], ["web-1"])
    assert read["account_other"]["hosts"] == read["region_us_east_1"]["hosts"] == ["other/us-east-1/twin"]
    assert "tag_a_b__" in read
    assert read["_meta"]["hostvars"]["win-1"]["ansible_connection"] == "psrp"
    of_web = read["_meta"]["hostvars"]["web-1"]
    assert (of_web["lightsail_state"], of_web["lightsail_tags"]) == ("running", {"env": "prod"})


@pytest.mark.real("sshd", "ssh-keygen")
@ansible
def test_a_tag_is_never_run_by_ansible(door: Door) -> None:
    trace = door.folder / "TRACE"
    attack = "{{ lookup('pipe', 'touch " + str(trace) + "') }}"
    write(door, instance("web-1", tags={"evil": attack, attack: "x", "__ansible_vault": "x", "{% raw %}": "y"}))
    words = ["web-1", "-i", "inventory.yaml", "-c", "local", "-m", "debug", "-a", "var=lightsail_tags"]
    ended = run_ansible(door, "ansible", *words)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "lookup('pipe'" in ended.stdout
    assert not trace.exists()


def test_without_instances_it_is_an_inventory_all_the_same() -> None:
    assert inventory([]) == {
        "all": {"hosts": {}, "children": {"windows": {"hosts": {}, "vars": {"ansible_connection": "psrp"}}}}
    }
