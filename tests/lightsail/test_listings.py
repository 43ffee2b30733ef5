from typing import Any

import pytest

from broker.errors import UpstreamError
from broker.lightsail import listings
from broker.model import InstanceRef, Platform


def server(**changes: object) -> dict[str, Any]:
    return {
        "name": "web-1",
        "arn": "arn:aws:lightsail:eu-west-1:123456789012:Instance/fc97c4a7-5240-55f9-8d51-46bfea8a0965",
        "location": {"availabilityZone": "eu-west-1a", "regionName": "eu-west-1"},
        "tags": [{"key": "env", "value": "prod"}, {"key": "flag"}],
        "blueprintId": "debian_12",
        "bundleId": "nano_3_0",
        "state": {"code": 16, "name": "running"},
        "sshKeyName": "team-key",
    } | changes


def read(value: object) -> listings.InstanceRecord:
    return listings.instance(value, "main", "eu-west-1")


def test_an_instance_is_read_with_its_tags_and_key_pair() -> None:
    record = read(server())
    assert record.ref == InstanceRef("main", "eu-west-1", "web-1")
    assert (record.blueprint, record.bundle, record.state) == ("debian_12", "nano_3_0", "running")
    assert (record.tags, record.key_pair) == ({"env": "prod", "flag": ""}, "team-key")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../web-1"},
        {"name": "w\u00e9b-1"},
        {"name": None},
        {"location": {"regionName": "us-east-1"}},
        {"location": None},
        {"state": {"name": "RUNNING!"}},
        {"state": "running"},
        {"blueprintId": ""},
        {"tags": [{"key": "env", "value": "dev"}, {"key": "env", "value": "prod"}]},
        {"tags": [{"value": "prod"}]},
        {"tags": [{"key": str(number)} for number in range(51)]},
        {"tags": [{"key": "k", "value": "v" * 257}]},
        {"tags": "env=prod"},
        {"arn": "arn:aws:ec2:eu-west-1:123456789012:Instance/x"},
    ],
)
def test_an_instance_that_is_not_sound_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UpstreamError):
        read(server(**change))


def test_a_record_that_cannot_be_read_does_not_hide_the_others() -> None:
    records, faults = listings.readable([server(), server(name="/"), None, server(name="web-2")], read)
    assert [record.ref.name for record in records] == ["web-1", "web-2"]
    assert len(faults) == 2


def test_a_blueprint_needs_its_id_and_a_platform_that_is_known() -> None:
    sound = {"blueprintId": "windows_server_2022", "platform": "WINDOWS", "minPower": 500, "isActive": False}
    blueprint = listings.blueprint(sound | {"description": "two\nlines\x00"})
    assert (blueprint.platform, blueprint.min_power, blueprint.is_active) == (Platform.WINDOWS, 500, False)
    assert blueprint.description == "two lines"
    for change in ({"platform": "PLAN9"}, {"blueprintId": None}, {"minPower": "500"}, {"minPower": True}):
        with pytest.raises(UpstreamError):
            listings.blueprint(sound | change)


def test_a_bundle_keeps_the_platforms_that_are_known() -> None:
    sound = {"bundleId": "nano_3_0", "power": 298, "price": 3.5, "supportedPlatforms": ["PLAN9", "LINUX_UNIX"]}
    bundle = listings.bundle(sound)
    assert (bundle.supported_platforms, bundle.price) == ((Platform.LINUX_UNIX,), 3.5)
    assert bundle.public_ipv4_address_count is None
    assert listings.bundle(sound | {"publicIpv4AddressCount": 0}).public_ipv4_address_count == 0
    for change in ({"power": -1}, {"power": float("nan")}, {"price": "free"}, {"supportedPlatforms": "WINDOWS"}):
        with pytest.raises(UpstreamError):
            listings.bundle(sound | change)


def test_a_key_pair_is_a_name_and_a_fingerprint() -> None:
    pair = listings.key_pair({"name": "team-key", "fingerprint": "21:54:e5"})
    assert pair == listings.KeyPair("team-key", "21:54:e5")
    with pytest.raises(UpstreamError):
        listings.key_pair({"name": "team-key"})
