from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.emulator import Emulator, Fixture, FixtureError, small_company
from broker.emulator.fixture_values import duration

WEB = {"name": "web-1", "region": "eu-west-1", "blueprint": "amazon_linux_2023", "bundle": "nano_3_0"}
WIN = {"name": "win-1", "region": "eu-west-1", "blueprint": "windows_server_2022", "bundle": "medium_win_3_0"}
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO/CI1YaDFMdRSvxM0uBIzZDGeBWBEpmly43ZF1opEew\n"

WHOLE = """\
access_key_id = "AKIDEMULATOR"
secret_access_key = "emulator-secret"
account_id = "123456789012"
ssh_ca = "ca"
page_size = 5
[[key_pairs]]
name = "team-key"
region = "eu-west-1"
private_key = "team-key.pem"
[[instances]]
name = "web-1"
region = "eu-west-1"
blueprint = "amazon_linux_2023"
bundle = "nano_3_0"
state = "running"
public_ip = "127.0.0.1"
ipv6 = []
tags = {env = "prod", ssh-port = "2222"}
host_keys = ["ssh_host_ed25519_key.pub"]
username = ""
certificate_lifetime = "780s"
[[instances]]
name = "win-1"
region = "eu-west-1"
blueprint = "windows_server_2022"
bundle = "medium_win_3_0"
key_pair = "team-key"
password = "S3cret-Admin-Pw!"
ready_after = "0s"
[[faults]]
operation = "GetInstanceAccessDetails"
instance = "web-1"
kind = "throttle"
times = 2
"""


def problems(values: dict[str, Any], directory: Path) -> tuple[str, ...]:
    with pytest.raises(FixtureError) as raised:
        Fixture.of(values, directory)
    return raised.value.problems


def test_a_whole_fixture_is_read_with_paths_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "ssh_host_ed25519_key.pub").write_text(HOST_KEY)
    (tmp_path / "lightsail.toml").write_text(WHOLE)
    fixture = Fixture.read(tmp_path / "lightsail.toml")
    assert fixture.ssh_ca == tmp_path / "ca"
    assert fixture.key_pairs[0].private_key == tmp_path / "team-key.pem"
    assert fixture.instances[0].host_keys == (tmp_path / "ssh_host_ed25519_key.pub",)
    assert fixture.instances[0].certificate_lifetime == timedelta(seconds=780)
    assert fixture.instances[0].tags == {"env": "prod", "ssh-port": "2222"}
    assert fixture.faults[0].times == 2


def test_an_empty_fixture_is_a_lightsail_without_instances(tmp_path: Path) -> None:
    fixture = Fixture.of({}, tmp_path)
    assert fixture.instances == ()
    assert (fixture.access_key_id, fixture.page_size, fixture.ssh_ca) == ("AKIDEMULATOR", 5, tmp_path / "ca")


def test_all_problems_come_at_once_with_their_paths(tmp_path: Path) -> None:
    values = {
        "bogus": 1,
        "page_size": 0,
        "account_id": "12",
        "key_pairs": [{"name": "-", "region": "mars-1", "private_key": "k"}],
        "instances": [
            WEB | {"blueprint": "nope", "colour": "red"},
            WEB | {"host_keys": ["missing.pub"], "certificate_lifetime": "soon", "public_ip": "300.0.0.1"},
            WEB,
            WEB | {"key_pair": "nobody-s"},
        ],
        "faults": [{"kind": "explode"}],
    }
    found = problems(values, tmp_path)
    assert {text.partition(": ")[0] for text in found} == {
        "bogus",
        "page_size",
        "account_id",
        "key_pairs[0].name",
        "key_pairs[0].region",
        "instances[0].blueprint",
        "instances[0].colour",
        "instances[1].host_keys[0]",
        "instances[1].certificate_lifetime",
        "instances[1].public_ip",
        "instances[3].name",
        "instances[3].key_pair",
        "faults[0].kind",
    }


@pytest.mark.parametrize(
    ("instance", "says"),
    [
        (WEB | {"bundle": "medium_win_3_0"}, "does not support the platform"),
        (WIN | {"bundle": "nano_3_0"}, "does not support the platform"),
        (WEB | {"bundle": "nano_3_2"}, "is not sold in eu-west-1"),
        (WEB | {"bundle": "nano_ipv6_3_0", "public_ip": "203.0.113.7"}, "has no IPv4 address"),
        (WIN | {"host_keys": ["host.pub"]}, "host_keys are for ssh"),
        (WEB | {"password": "S3cret"}, "password is for Windows"),
        (WEB | {"tags": {"": "x"}}, "1 to 128 characters"),
        (WEB | {"tags": {"env": "x" * 257}}, "at most 256 characters"),
        (WEB | {"tags": {f"tag-{n}": "" for n in range(51)}}, "at most 50 items"),
        (WEB | {"state": "asleep"}, "'running'"),
        (WEB | {"ipv6": ["127.0.0.1"]}, "ipv6"),
        (WEB | {"ssh_port": 22}, "not permitted"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, instance: dict[str, Any], says: str) -> None:
    (tmp_path / "host.pub").write_text(HOST_KEY)
    (problem,) = problems({"instances": [instance]}, tmp_path)
    assert problem.startswith("instances[0]")
    assert says in problem


def test_names_are_unique_in_a_region_over_instances_and_key_pairs(tmp_path: Path) -> None:
    pair = {"name": "web-1", "region": "eu-west-1", "private_key": "k.pem"}
    elsewhere = WEB | {"region": "us-east-1"}
    found = problems({"key_pairs": [pair], "instances": [WEB, elsewhere]}, tmp_path)
    assert found == ("instances[0].name: is already the name of key_pairs[0] in eu-west-1",)


@pytest.mark.parametrize("content", [b"no key", b""])
def test_a_key_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca").write_bytes(content)
    assert problems({}, tmp_path)[0].startswith("ssh_ca: does not hold what it should")


def test_a_key_that_is_not_rsa_is_refused(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "k.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    found = problems({"key_pairs": [{"name": "team", "region": "eu-west-1", "private_key": "k.pem"}]}, tmp_path)
    assert found == ("key_pairs[0].private_key: does not hold what it should: not an RSA key",)


@pytest.mark.parametrize("text", ["page_size = ", "\xff"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "f.toml").write_text(text, "latin-1")
    with pytest.raises(FixtureError, match="is not TOML"):
        Fixture.read(tmp_path / "f.toml")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FixtureError, match="cannot be read"):
        Fixture.read(tmp_path / "f.toml")


def test_a_fixture_shows_no_secret(company: dict[str, Any], tmp_path: Path) -> None:
    fixture = Fixture.of(company | {"secret_access_key": "Sesame-1"}, tmp_path)
    assert "Sesame-1" not in repr(fixture)
    assert "S3cret-Admin-Pw!" not in repr(fixture)
    found = problems({"secret_access_key": ["Sesame-1"], "instances": [WIN | {"password": ["Sesame-2"]}]}, tmp_path)
    assert "Sesame" not in "".join(found)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("250ms", 0.25), ("1m1s", 61), ("0s", 0)])
def test_durations_are_written_as_everywhere(text: str, seconds: float) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "90", "s", "1s1h", "-1s", "1.5h", " 1s", 90, None, "٣s"])
def test_other_durations_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        duration(text)


async def test_keys_are_made_where_there_are_none_for_the_owner_alone(tmp_path: Path) -> None:
    pair = {"name": "team-key", "region": "eu-west-1", "private_key": "made/team-key.pem"}
    fixture = Fixture.of({"ssh_ca": "made/ca", "key_pairs": [pair], "instances": [WEB, WIN]}, tmp_path)
    async with Emulator(fixture) as emulator:
        line = emulator.ssh_ca_line
    made = tmp_path / "made"
    assert (made.stat().st_mode & 0o777) == 0o700
    assert {file.name: file.stat().st_mode & 0o777 for file in made.iterdir()} == {
        "ca": 0o600,
        "ca.pub": 0o644,
        "team-key.pem": 0o600,
    }
    assert (made / "ca.pub").read_text() == line
    assert len(line) > 700  # RSA 4096
    before = {file: file.read_bytes() for file in made.iterdir()}
    async with Emulator(fixture):
        assert {file: file.read_bytes() for file in made.iterdir()} == before


async def test_a_password_that_does_not_fit_its_key_is_refused(keys: Path, tmp_path: Path) -> None:
    fixture = Fixture.of({"ssh_ca": str(keys / "ca"), "instances": [WIN | {"password": "x" * 246}]}, tmp_path)
    with pytest.raises(FixtureError, match="too long"):
        await Emulator(fixture).start()


def test_the_small_company_has_something_of_everything(tmp_path: Path) -> None:
    instances = small_company(tmp_path).instances
    assert len({instance.region for instance in instances}) == 2
    assert {instance.blueprint_of.platform for instance in instances} == {"LINUX_UNIX", "WINDOWS"}
    assert {instance.state for instance in instances} == {"running", "stopped"}
    assert {instance.tags["env"] for instance in instances} == {"prod", "dev"}
    assert any(not instance.bundle_of.has_ipv4 for instance in instances)
    assert {bool(instance.key_pair) for instance in instances if instance.blueprint.startswith("win")} == {True, False}
