"""`broker keys`, run against an embedded Lightsail, a real log and a real custody."""

import asyncio
import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat

from broker.cli.keys import DEFAULT, HELD, MISSING, OTHER, covered, forget, keep, seal_anew
from broker.cli.main import main
from broker.emulator import Emulator, Fixture
from broker.errors import AuditUnavailable, InvalidRequest, KeyNotHeld, KeysUnavailable
from broker.lightsail.listings import KeyPair
from broker.model import Event, Instance, InstanceRef, Platform, Secret
from broker.unsealing.custody import Custody
from broker.unsealing.masterkeys import LocalMasterKey
from tests.doubles.unsealing import TEAM_KEY, aws_fingerprint, held, pem, rsa_key

WINDOWS = {"region": "eu-west-1", "blueprint": "windows_server_2022", "bundle": "medium_win_3_0"}


class Ledger:
    """Keeps what was recorded, or refuses."""

    def __init__(self, *, works: bool = True) -> None:
        self.events: list[Event] = []
        self._works = works

    async def append(self, event: Event) -> None:
        if not self._works:
            raise AuditUnavailable("another process has the log")
        self.events.append(event)

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(event.event, event.outcome) for event in self.events]


@dataclass
class Aws:
    """Has these key pairs in every region."""

    pairs: Mapping[str, str] = field(default_factory=lambda: {"team-key": aws_fingerprint(rsa_key())})

    async def key_pairs(self, account: str, region: str) -> tuple[KeyPair, ...]:
        assert (account, region) == ("main", "eu-west-1")
        return tuple(KeyPair(name, fingerprint) for name, fingerprint in self.pairs.items())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
async def custody(directory: Path) -> Custody:
    return await Custody.open(directory, LocalMasterKey(bytes(32)))


async def test_a_key_that_is_kept_is_recorded_with_its_fingerprint(custody: Custody) -> None:
    ledger = Ledger()
    kept = await keep(custody, Aws(), ledger.append, TEAM_KEY, Secret(pem(rsa_key())))
    assert custody.get(TEAM_KEY) == kept
    [event] = ledger.events
    assert (event.event, event.outcome, event.target) == ("keys.added", "success", "main/eu-west-1/team-key")
    assert event.details["fingerprint"] == aws_fingerprint(rsa_key())
    assert "PRIVATE" not in repr(event)


async def test_a_key_of_no_pair_or_of_another_is_neither_kept_nor_recorded(custody: Custody) -> None:
    ledger = Ledger()
    for aws in (Aws({}), Aws({"team-key": aws_fingerprint(rsa_key(1))})):
        with pytest.raises(InvalidRequest):
            await keep(custody, aws, ledger.append, TEAM_KEY, Secret(pem(rsa_key())))
    assert custody.list() == ()
    assert ledger.events == []


async def test_what_cannot_be_recorded_does_not_happen(custody: Custody, directory: Path) -> None:
    silent = Ledger(works=False)
    with pytest.raises(AuditUnavailable):
        await keep(custody, Aws(), silent.append, TEAM_KEY, Secret(pem(rsa_key())))
    assert custody.list() == ()
    await custody.add(held())
    with pytest.raises(AuditUnavailable):
        await forget(custody, silent.append, TEAM_KEY)
    with pytest.raises(AuditUnavailable):
        await seal_anew(directory, LocalMasterKey(bytes(32)), LocalMasterKey(b"n" * 32), silent.append)
    assert (await Custody.open(directory, LocalMasterKey(bytes(32)))).list() == (held(),)


async def test_a_change_that_fails_is_recorded_as_failed(custody: Custody, directory: Path) -> None:
    ledger = Ledger()
    await custody.add(held())
    with pytest.raises(KeysUnavailable):
        await seal_anew(directory, LocalMasterKey(b"w" * 32), LocalMasterKey(b"n" * 32), ledger.append)
    assert ledger.told == [("keys.rewrapped", "success"), ("keys.rewrapped", "failure")]
    assert ledger.events[-1].error == "keys_unavailable"


async def test_a_key_that_is_forgotten_is_recorded(custody: Custody) -> None:
    ledger = Ledger()
    await custody.add(held())
    await forget(custody, ledger.append, TEAM_KEY)
    assert custody.list() == ()
    assert ledger.told == [("keys.removed", "success")]
    with pytest.raises(KeyNotHeld):
        await forget(custody, ledger.append, TEAM_KEY)
    assert len(ledger.events) == 1


def windows(name: str, key_pair: str) -> Instance:
    ref = InstanceRef("main", "eu-west-1", name)
    return Instance(ref=ref, platform=Platform.WINDOWS, blueprint="", bundle="", state="running", key_pair=key_pair)


async def test_coverage_names_what_could_not_be_opened(custody: Custody) -> None:
    await custody.add(held(0))
    await custody.add(held(1, replace(TEAM_KEY, name="made-again")))
    await custody.add(held(2, replace(TEAM_KEY, name="gone-at-aws")))
    linux = replace(windows("web-1", "team-key"), platform=Platform.LINUX_UNIX)
    instances = [
        windows("win-1", "team-key"),
        windows("win-2", "made-again"),
        windows("win-3", "lost-key"),
        windows("win-4", "gone-at-aws"),
        windows("win-5", "LightsailDefaultKeyPair"),
        windows("win-6", ""),
        linux,
    ]
    aws = Aws({"team-key": aws_fingerprint(rsa_key()), "made-again": aws_fingerprint(rsa_key(2)), "lost-key": "x"})
    states = {row["instance"].split("/")[-1]: row["state"] for row in await covered(custody, aws, instances)}
    assert states == {
        "win-1": HELD,
        "win-2": OTHER,
        "win-3": MISSING,
        "win-4": HELD,
        "win-5": DEFAULT,
        "win-6": DEFAULT,
    }


async def test_aws_is_not_asked_for_key_pairs_where_only_the_default_one_is_used(custody: Custody) -> None:
    there = replace(windows("win-1", ""), ref=InstanceRef("main", "us-east-1", "win-1"))
    assert await covered(custody, Aws(), [there]) == [
        {"instance": "main/us-east-1/win-1", "key_pair": "LightsailDefaultKeyPair", "state": DEFAULT}
    ]


@pytest.fixture(scope="module")
def lightsail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An embedded Lightsail beside the test, with one custom key pair and two Windows instances."""
    folder = tmp_path_factory.mktemp("lightsail")
    (folder / "team-key.pem").write_text(pem(rsa_key()))
    (folder / "team-key.pem").chmod(0o600)
    values = {
        "key_pairs": [{"name": "team-key", "region": "eu-west-1", "private_key": "team-key.pem"}],
        "instances": [WINDOWS | {"name": "win-1", "key_pair": "team-key"}, WINDOWS | {"name": "win-2"}],
    }
    emulator = Emulator(Fixture.of(values, folder), key_pool=1, fresh_keys=False)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(emulator.start("127.0.0.1", 0), loop).result(30)
        yield emulator
        asyncio.run_coroutine_threadsafe(emulator.stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


Keys = Callable[..., Said]


@pytest.fixture
def folder(lightsail: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings, the current one, and an environment with the emulator's keys."""
    (tmp_path / "broker.toml").write_text(
        '[[issuers]]\nname = "corp"\nissuer = "https://id.example.com"\naudience = "broker"\n'
        f'[[accounts]]\nname = "main"\nregions = ["eu-west-1"]\nendpoint_url = "{lightsail.url}"\n'
        '[audit]\norigin = "keys.test/audit"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BROKER_CONFIG", raising=False)
    for name, value in lightsail.environment.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture
def keys(folder: Path, capfd: pytest.CaptureFixture[str]) -> Keys:
    """Answer what runs a command in that folder, on a fresh state."""
    del folder

    def broker(*words: str) -> Said:
        code = main(words)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        assert "BEGIN" not in out + err
        return Said(code, out, err)

    assert broker("init").code == 0
    return broker


PLACE = ("--account", "main", "--region", "eu-west-1")


def test_a_key_s_life_in_custody(keys: Keys, folder: Path) -> None:
    assert keys("keys", "coverage").code == 1
    (folder / "key").write_text(pem(rsa_key(), PrivateFormat.OpenSSH))
    added = keys("keys", "add", "team-key", *PLACE, "--private-key", "key")
    assert added.code == 0, added.err
    assert aws_fingerprint(rsa_key()) in added.err

    [item] = json.loads(keys("keys", "list", "--format", "json").out)
    assert (item["key_pair"], item["bits"], item["fingerprint"]) == ("team-key", 2048, aws_fingerprint(rsa_key()))
    coverage = keys("keys", "coverage", "--format", "json")
    assert coverage.code == 0, coverage.err
    shown = {row["instance"]: (row["key_pair"], row["state"]) for row in json.loads(coverage.out)}
    assert shown == {
        "main/eu-west-1/win-1": ("team-key", "held"),
        "main/eu-west-1/win-2": ("LightsailDefaultKeyPair", "default, none needed"),
    }

    new = folder / "new.key"
    new.write_bytes(base64.b64encode(bytes(range(32))))
    new.chmod(0o600)
    rewrapped = keys("keys", "rewrap", "--new-master-key", "file:new.key")
    assert rewrapped.code == 0, rewrapped.err
    assert keys("keys", "list").code == 7
    settings = folder / "broker.toml"
    settings.write_text(settings.read_text() + '[keys]\nmaster_key = "file:new.key"\n')
    assert "team-key" in keys("keys", "list").out

    assert keys("keys", "remove", "team-key", *PLACE).code == 0
    again = keys("keys", "remove", "team-key", *PLACE)
    assert again.code == 2
    assert "no key of main/eu-west-1/team-key is in custody; `broker keys list`" in again.err
    assert json.loads(keys("keys", "list", "--format", "json").out) == []
    events = keys("audit", "search", "--format", "json").out
    for name in ("keys.added", "keys.rewrapped", "keys.removed"):
        assert name in events
    assert "service." not in events


def test_a_file_is_read_and_refused_in_words(keys: Keys, folder: Path) -> None:
    wrong = folder / "wrong.pem"
    wrong.write_text(pem(rsa_key(1)))
    refused = keys("keys", "add", "team-key", *PLACE, "--private-key", "wrong.pem")
    assert refused.code == 2
    assert aws_fingerprint(rsa_key()) in refused.err
    wrong.write_bytes(b"\xff\xfe")
    assert "one private key" in keys("keys", "add", "team-key", *PLACE, "--private-key", "wrong.pem").err
    assert keys("keys", "add", "team-key", *PLACE, "--private-key", "nowhere.pem").code == 2


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_key_file_that_others_can_read_is_warned_about(keys: Keys, folder: Path, mode: int, *, warned: bool) -> None:
    (folder / "key").write_text(pem(rsa_key()))
    (folder / "key").chmod(mode)
    added = keys("keys", "add", "team-key", *PLACE, "--private-key", "key")
    assert added.code == 0
    assert ("key can be read by other users" in added.err) is warned


def test_the_help_of_coverage_explains_every_state(capsys: pytest.CaptureFixture[str]) -> None:
    main(["keys", "coverage", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert all(f"`{state}`" in shown for state in (HELD, MISSING, OTHER, DEFAULT))


@pytest.mark.parametrize(
    "place", [("--account", "other", "--region", "eu-west-1"), ("--account", "main", "--region", "us-east-1")]
)
def test_a_place_that_the_settings_do_not_have_is_refused(keys: Keys, place: tuple[str, ...]) -> None:
    refused = keys("keys", "add", "team-key", *place, "--private-key", "nowhere.pem")
    assert refused.code == 2
    assert "main/eu-west-1" in refused.err


def test_a_pair_that_aws_does_not_have_is_refused(keys: Keys, folder: Path) -> None:
    (folder / "key").write_text(pem(rsa_key()))
    refused = keys("keys", "add", "other-key", *PLACE, "--private-key", "key")
    assert refused.code == 2
    assert "no key pair" in refused.err


@pytest.mark.usefixtures("keys")
def test_a_key_can_come_through_a_pipe(folder: Path) -> None:
    command = [sys.executable, "-m", "broker.cli.main", "keys", "add", "team-key", *PLACE, "--private-key", "-"]
    done = subprocess.run(command, check=False, cwd=folder, input=pem(rsa_key()), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert aws_fingerprint(rsa_key()) in done.stderr


def test_init_refuses_a_directory_of_keys_that_is_open_to_others(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = folder / "state" / "keys"
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    assert main(["init"]) == 7
    assert "open to other users of this machine; its mode must be 0700" in capfd.readouterr().err
    assert list((folder / "state").iterdir()) == [directory]
    directory.chmod(0o700)
    assert main(["init"]) == 0
