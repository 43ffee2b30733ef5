"""Credentials shared on one machine, with real agents: the person's own, and ours that end by themselves."""

import json
import os
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.client import folders
from broker.client.agent import Agent
from broker.client.errors import BrokerProblem, HostKeysUnknown, Misconfigured, NotReady, Unreachable
from broker.client.keys import certificate_blob
from broker.client.lease import Lease
from broker.client.leases import Leases, forget
from broker.client.purpose import Purpose
from tests.doubles.client import ssh_credential
from tests.real.door import an_agent

pytestmark = pytest.mark.real("ssh")
URL = "https://broker.example"
ANY = Purpose()


class Shop:
    """Answers credentials, each time another one, and counts."""

    def __init__(self) -> None:
        self.sold: list[Any] = []
        self.changes: dict[str, Any] = {}

    def ask(self) -> Any:
        document = ssh_credential()
        document["lease"]["id"] = f"lease-{len(self.sold)}"
        for name, value in self.changes.items():
            part, _, member = name.partition(".")
            if member:
                document[part][member] = value
            else:
                document[part] = value
        self.sold.append(document)
        return document


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="run-") as run:  # a socket's path has to be short, and pytest's is not
        variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": run}
        yield variables
        forget(variables)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def own_agent(tmp_path: Path) -> Iterator[str]:
    with an_agent(tmp_path) as path:
        yield path


def leases(environment: dict[str, str], person: str = "alice", said: list[str] | None = None, **others: Any) -> Leases:
    return Leases(environment, URL, person, said.append if said is not None else list[str]().append, **others)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_later_call_uses_the_same_credential(environment: dict[str, str], shop: Shop) -> None:
    first = leases(environment).obtain("web-1", ANY, shop.ask)
    second = leases(environment).obtain("web-1", ANY, shop.ask)

    assert (first.id, second.id, len(shop.sold)) == ("lease-0", "lease-0", 1)
    assert (second.host, second.port, second.username) == ("127.0.0.1", 2222, "ec2-user")
    assert second.warnings == shop.sold[0]["warnings"]


@pytest.mark.parametrize("change", ["instance", "person", "service"])
def test_a_credential_is_for_one_instance_one_person_and_one_service(
    change: str, environment: dict[str, str], shop: Shop
) -> None:
    leases(environment).obtain("web-1", ANY, shop.ask)
    others = {
        "instance": lambda: leases(environment).obtain("web-2", ANY, shop.ask),
        "person": lambda: leases(environment, "bob").obtain("web-1", ANY, shop.ask),
        "service": lambda: Leases(environment, "https://other", "alice", print).obtain("web-1", ANY, shop.ask),
    }
    assert others[change]().id == "lease-1"


def test_a_purpose_is_only_met_by_a_credential_that_was_granted_for_it(environment: dict[str, str], shop: Shop) -> None:
    def of(*purpose: str, break_glass: bool = False) -> str:
        return leases(environment).obtain("web-1", Purpose(*purpose, break_glass=break_glass), shop.ask).id

    assert of("deploy") == "lease-0"
    assert of("deploy") == "lease-0"
    assert of() == "lease-0"
    assert of("deploy", "OPS-7") == "lease-1"
    assert of("", "OPS-7") == "lease-2"
    assert of("deploy", break_glass=True) == "lease-3"
    assert of("deploy", "OPS-7") == "lease-1"  # they are kept side by side
    assert of("deploy") == "lease-0"


def test_the_key_is_in_no_file_and_nobody_else_can_look(
    environment: dict[str, str], shop: Shop, tmp_path: Path
) -> None:
    lease = leases(environment).obtain("web-1", ANY, shop.ask)
    run = Path(environment["XDG_RUNTIME_DIR"])
    kept = [*files(tmp_path), *files(run)]
    content = b"".join(path.read_bytes() for path in kept)

    secret = [line for line in shop.sold[0]["ssh"]["private_key"].splitlines() if not line.startswith("-----")]
    assert len(secret) > 10
    assert not [line for line in secret if line.encode() in content]
    assert b"PRIVATE KEY" not in content
    assert {path.name for path in files(lease.folder)} == {"id-cert.pub", "known_hosts", "lease.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    made = [path for path in (run / "broker").rglob("*") if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}


def test_the_person_s_own_agent_is_used_when_it_takes_the_key(
    environment: dict[str, str], shop: Shop, own_agent: str
) -> None:
    environment["SSH_AUTH_SOCK"] = own_agent
    lease = leases(environment).obtain("web-1", ANY, shop.ask)

    assert lease.agent == own_agent
    listed = subprocess.run(["ssh-add", "-l"], env=environment, capture_output=True, text=True, check=True).stdout
    assert "web-1 by broker until" in listed
    assert not (lease.folder / "agent").exists()
    assert forget(environment) == 1
    with Agent(own_agent) as agent:
        assert agent.identities() == []


@pytest.mark.parametrize("socket", ["/nowhere", "relative", 'quo"te', ""])
def test_without_an_agent_of_the_person_there_is_one_of_ours(
    socket: str, environment: dict[str, str], shop: Shop
) -> None:
    environment["SSH_AUTH_SOCK"] = socket
    lease = leases(environment).obtain("web-1", ANY, shop.ask)

    assert lease.agent == str(lease.folder / "agent")
    with Agent(lease.agent) as agent:
        assert agent.identities() == [certificate_blob(shop.sold[0]["ssh"]["certificate"])]


def test_an_agent_that_lost_the_key_leads_to_a_new_credential(environment: dict[str, str], shop: Shop) -> None:
    lease = leases(environment).obtain("web-1", ANY, shop.ask)
    with Agent(lease.agent) as agent:
        agent.remove(certificate_blob(shop.sold[0]["ssh"]["certificate"]))

    assert leases(environment).obtain("web-1", ANY, shop.ask).id == "lease-1"


def processes_with(text: str) -> list[str]:
    shown = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if text in line]


def test_an_agent_of_ours_ends_with_the_lease_or_when_it_is_forgotten(environment: dict[str, str], shop: Shop) -> None:
    forgotten = leases(environment).obtain("web-1", ANY, shop.ask)
    assert processes_with(forgotten.agent)
    forget(environment)
    shop.changes["lease.expires_at"] = "2030-01-01T00:00:02.000Z"
    ending = leases(environment).obtain("web-1", ANY, shop.ask)
    assert processes_with(ending.agent)
    time.sleep(2.5)
    assert ending.folder.is_dir()
    assert not ending.has_its_key()

    deadline = time.monotonic() + 30  # ssh-agent looks every ten seconds whether it is still wanted
    while processes_with(environment["XDG_RUNTIME_DIR"]) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert processes_with(environment["XDG_RUNTIME_DIR"]) == []


def test_forgetting_leaves_nothing(environment: dict[str, str], shop: Shop) -> None:
    leases(environment).obtain("web-1", ANY, shop.ask)
    leases(environment).obtain("web-2", ANY, shop.ask)

    assert forget(environment) == 2
    assert [path for path in Path(environment["XDG_RUNTIME_DIR"]).rglob("*") if path.suffix != ".lock"] == [
        Path(environment["XDG_RUNTIME_DIR"]) / "broker",
        Path(environment["XDG_RUNTIME_DIR"]) / "broker" / "leases",
    ]
    assert forget(environment) == 0
    assert leases(environment).obtain("web-1", ANY, shop.ask).id == "lease-2"


def test_where_there_is_no_agent_at_all_a_file_has_the_key_and_that_is_said(
    environment: dict[str, str], shop: Shop, tmp_path: Path
) -> None:
    said: list[str] = []
    environment["PATH"] = str(tmp_path)
    lease = leases(environment, said=said).obtain("web-1", ANY, shop.ask)

    assert (lease.agent, lease.identity_file) == ("", lease.folder / "id")
    assert lease.identity_file.read_text() == shop.sold[0]["ssh"]["private_key"]
    assert stat.S_IMODE(lease.identity_file.stat().st_mode) == 0o600
    assert said == [f"no ssh-agent can be had on this machine, so the key is in a file: {lease.folder}/id (mode 0600)"]
    assert leases(environment).obtain("web-1", ANY, shop.ask).id == "lease-0"
    shutil.rmtree(lease.folder)


@pytest.mark.parametrize(("seconds", "margin"), [(780, 60), (240, 60), (100, 25), (4, 1)])
def test_shortly_before_its_end_a_credential_is_replaced(
    seconds: int, margin: int, environment: dict[str, str], shop: Shop
) -> None:
    shop.changes["lease.expires_at"] = f"2030-01-01T00:{seconds // 60:02}:{seconds % 60:02}.000Z"
    now = time.time()

    def at(after: float) -> str:
        return leases(environment, clock=lambda: now + after).obtain("web-1", ANY, shop.ask).id

    assert [at(0), at(seconds - margin - 0.5), at(seconds - margin + 0.5)] == ["lease-0", "lease-0", "lease-1"]


def test_what_has_ended_is_swept_away(environment: dict[str, str], shop: Shop) -> None:
    now = time.time()
    old = leases(environment).obtain("web-1", ANY, shop.ask)
    leases(environment, clock=lambda: now + 1000).obtain("web-2", ANY, shop.ask)

    assert not old.folder.exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"id": "x"}', "null", '{"id": 1, "host": [], "port": "x"}', "\udcff"]
)
def test_a_half_written_state_is_replaced(content: str, environment: dict[str, str], shop: Shop) -> None:
    lease = leases(environment).obtain("web-1", ANY, shop.ask)
    (lease.folder / "lease.json").write_bytes(content.encode("utf-8", "surrogateescape"))

    assert leases(environment).obtain("web-1", ANY, shop.ask).id == "lease-1"


@pytest.mark.parametrize("missing", ["id-cert.pub", "lease.json"])
def test_a_missing_file_leads_to_a_new_credential(missing: str, environment: dict[str, str], shop: Shop) -> None:
    (leases(environment).obtain("web-1", ANY, shop.ask).folder / missing).unlink()

    assert leases(environment).obtain("web-1", ANY, shop.ask).id == "lease-1"


def test_a_failure_is_everybody_s_own_and_leaves_nothing(environment: dict[str, str], shop: Shop) -> None:
    def refuse() -> Any:
        raise BrokerProblem(403, {"code": "denied", "detail": "No."})

    with pytest.raises(BrokerProblem):
        leases(environment).obtain("web-1", ANY, refuse)
    assert [path.suffix for path in files(Path(environment["XDG_RUNTIME_DIR"]))] == [".lock"]
    assert leases(environment).obtain("web-1", ANY, shop.ask).id == "lease-0"


def test_many_at_once_ask_once(environment: dict[str, str], shop: Shop) -> None:
    def slowly() -> Any:
        time.sleep(0.3)
        return shop.ask()

    found: list[Lease] = []
    threads = [
        threading.Thread(target=lambda: found.append(leases(environment).obtain("web-1", ANY, slowly)))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ({lease.id for lease in found}, len(found), len(shop.sold)) == ({"lease-0"}, 10, 1)


def test_one_that_asks_for_ever_does_not_hold_up_the_others_for_ever(environment: dict[str, str], shop: Shop) -> None:
    asking, end = threading.Event(), threading.Event()

    def never() -> Any:
        asking.set()
        end.wait(20)
        return shop.ask()

    thread = threading.Thread(target=lambda: leases(environment).obtain("web-1", ANY, never))
    thread.start()
    asking.wait(10)
    with pytest.raises(NotReady, match="for too long"):
        leases(environment, queue_seconds=0.2).obtain("web-1", ANY, shop.ask)
    end.set()
    thread.join()


@pytest.mark.parametrize(
    ("change", "value", "error"),
    [
        ("host", "-oProxyCommand=x", Unreachable),
        ("host", "a\nProxyCommand x", Unreachable),
        ("username", "a b", Unreachable),
        ("username", "%u", Unreachable),
        ("port", 0, Unreachable),
        ("port", 70000, Unreachable),
        ("ssh.known_hosts", [], HostKeysUnknown),
        ("ssh.known_hosts", ["@cert-authority * ssh-ed25519 AAAA"], Unreachable),
        ("ssh.known_hosts", ["* ssh-ed25519 AAAA"], Unreachable),
        ("ssh.known_hosts", ["127.0.0.1 ssh-ed25519 AAAA\n* ssh-rsa BBBB"], Unreachable),
        ("ssh.certificate", "ssh-rsa AAAA", Unreachable),
        ("lease.expires_at", "soon", Unreachable),
        ("lease.expires_at", "2029-12-31T23:59:59Z", Unreachable),
    ],
)
def test_an_answer_that_ssh_cannot_use_is_refused_and_leaves_nothing(
    change: str, value: Any, error: type[Exception], environment: dict[str, str], shop: Shop
) -> None:
    shop.changes[change] = value
    with pytest.raises(error):
        leases(environment).obtain("web-1", ANY, shop.ask)
    assert [path.suffix for path in files(Path(environment["XDG_RUNTIME_DIR"]))] == [".lock"]


def test_a_folder_that_others_can_read_is_not_used(environment: dict[str, str]) -> None:
    run = Path(environment["XDG_RUNTIME_DIR"])
    (run / "broker" / "leases").mkdir(parents=True)
    (run / "broker" / "leases").chmod(0o755)
    with pytest.raises(Misconfigured, match="folder of yours alone"):
        leases(environment)


def test_a_link_that_somebody_laid_is_not_followed(environment: dict[str, str], tmp_path: Path) -> None:
    run = Path(environment["XDG_RUNTIME_DIR"])
    (run / "broker").mkdir(0o700)
    (tmp_path / "elsewhere").mkdir(0o700)
    (run / "broker" / "leases").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Misconfigured, match="folder of yours alone"):
        leases(environment)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HOME": "/h", "XDG_RUNTIME_DIR": "/nowhere"}, "/h/.local/state/broker"),
        ({"HOME": "/h", "XDG_RUNTIME_DIR": "relative", "XDG_STATE_HOME": "/s"}, "/s/broker"),
        ({"HOME": "/h"}, "/h/.local/state/broker"),
        ({"HOME": "/h", "XDG_STATE_HOME": "relative"}, "/h/.local/state/broker"),
    ],
)
def test_without_a_folder_for_the_session_the_lasting_one_is_used(variables: dict[str, str], expected: str) -> None:
    assert str(folders.passing(variables)) == expected


def test_a_socket_s_path_may_be_too_long_for_the_folder(shop: Shop, tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    deep.mkdir(0o700, parents=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(deep)}
    lease = leases(environment).obtain("web-1", ANY, shop.ask)

    assert lease.folder.is_relative_to(deep)
    assert not Path(lease.agent).is_relative_to(deep)
    assert stat.S_IMODE(Path(lease.agent).parent.stat().st_mode) == 0o700
    assert lease.has_its_key()
    forget(environment)
    assert not Path(lease.agent).parent.exists()


def test_the_state_is_what_a_person_may_read(environment: dict[str, str], shop: Shop) -> None:
    lease = leases(environment).obtain("web-1", Purpose("deploy", "OPS-7"), shop.ask)
    state = json.loads((lease.folder / "lease.json").read_text())

    assert state["purpose"] == {"reason": "deploy", "ticket": "OPS-7", "break_glass": False}
    assert set(state) == {
        "id", "host", "port", "username", "expires_at", "warnings", "agent", "own_agent", "purpose", "expires",
        "margin",
    }  # fmt: skip
