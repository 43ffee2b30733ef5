"""Every operation, read by the SDKs and the command line of AWS over a socket."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]  # it ships no types
import pytest

from broker.emulator import Emulator
from tests.emulator.clients import KEY_ID, SECRET, Refusal, lightsail


async def test_an_instance_is_described_in_full(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        instance = (await client.get_instance(instanceName="web-1"))["instance"]
    assert instance["name"] == "web-1"
    assert instance["blueprintId"] == "amazon_linux_2023"
    assert instance["bundleId"] == "nano_3_0"
    assert instance["publicIpAddress"] == "203.0.113.7"
    assert instance["privateIpAddress"].startswith("172.26.")
    assert instance["ipAddressType"] == "ipv4"
    assert instance["tags"] == [{"key": "env", "value": "prod"}, {"key": "pinned"}]
    assert instance["state"] == {"code": 16, "name": "running"}
    assert instance["location"] == {"availabilityZone": "eu-west-1a", "regionName": "eu-west-1"}
    assert instance["sshKeyName"] == "LightsailDefaultKeyPair"
    assert instance["username"] == "ec2-user"
    assert instance["hardware"]["cpuCount"] == 2
    assert instance["networking"]["monthlyTransfer"] == {"gbPerMonthAllocated": 1024}


async def test_an_arn_holds_a_uuid_and_not_the_name(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        arns = [(await client.get_instance(instanceName=name))["instance"]["arn"] for name in ("web-1", "old", "web-1")]
    assert all(arn.startswith("arn:aws:lightsail:eu-west-1:123456789012:Instance/") for arn in arns)
    assert all("web" not in arn and "old" not in arn for arn in arns)
    assert arns[0] == arns[2] != arns[1]


async def test_an_instance_that_does_not_run_has_no_public_address(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        instance = (await client.get_instance(instanceName="old"))["instance"]
    assert instance["state"] == {"code": 80, "name": "stopped"}
    assert "publicIpAddress" not in instance


async def test_an_ipv6_only_instance_has_no_ipv4_address_at_all(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        instance = (await client.get_instance(instanceName="edge"))["instance"]
    assert instance["ipAddressType"] == "ipv6"
    assert instance["ipv6Addresses"] == ["2001:db8::1"]
    assert not {"publicIpAddress", "privateIpAddress"} & set(instance)


async def test_state_and_ports_are_told(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        state = (await client.get_instance_state(instanceName="old"))["state"]
        linux = (await client.get_instance_port_states(instanceName="web-1"))["portStates"]
        windows = (await client.get_instance_port_states(instanceName="win-1"))["portStates"]
    assert state == {"code": 80, "name": "stopped"}
    assert (linux[0]["fromPort"], linux[0]["state"], linux[0]["cidrs"]) == (22, "open", ["0.0.0.0/0"])
    assert windows[0]["fromPort"] == 3389


async def test_instances_of_another_region_are_not_found(emulator: Emulator) -> None:
    async with lightsail(emulator, region="us-east-1") as client:
        listed = (await client.get_instances())["instances"]
        with Refusal() as refusal:
            await client.get_instance(instanceName="win-1")
    assert [(each["name"], each["location"]["regionName"]) for each in listed] == [("web-1", "us-east-1")]
    assert (refusal.code, refusal.status) == ("NotFoundException", 400)


async def test_a_region_in_which_nothing_is_has_nothing(emulator: Emulator) -> None:
    async with lightsail(emulator, region="ap-northeast-1") as client:
        assert (await client.get_instances())["instances"] == []
        assert (await client.get_key_pairs(includeDefaultKeyPair=True))["keyPairs"] == []


@pytest.mark.parametrize("region", ["us-west-1", "moon-1"])
async def test_lightsail_is_not_offered_in_every_region(emulator: Emulator, region: str) -> None:
    async with lightsail(emulator, region=region) as client:
        with Refusal() as refusal:
            await client.get_instances()
    assert refusal.code == "UnrecognizedClientException"


async def test_regions_tell_their_zones_only_when_asked(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        bare = (await client.get_regions())["regions"]
        full = (await client.get_regions(includeAvailabilityZones=True))["regions"]
    assert len(bare) == 16
    assert all(region["availabilityZones"] == [] for region in bare)
    tokyo = next(region for region in full if region["name"] == "ap-northeast-1")
    assert [zone["zoneName"][-1] for zone in tokyo["availabilityZones"]] == ["a", "c", "d"]
    assert all(region["relationalDatabaseAvailabilityZones"] == [] for region in full)


async def test_the_default_key_pair_is_hidden_unless_asked_for(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        shown = {pair["name"] for pair in (await client.get_key_pairs())["keyPairs"]}
        every = {pair["name"] for pair in (await client.get_key_pairs(includeDefaultKeyPair=True))["keyPairs"]}
    assert shown == {"team-key", "brought"}
    assert every == shown | {"LightsailDefaultKeyPair"}


@pytest.mark.real("openssl")
async def test_a_key_pair_has_the_fingerprint_of_its_origin(emulator: Emulator, keys: Path) -> None:
    async with lightsail(emulator) as client:
        created = (await client.get_key_pair(keyPairName="team-key"))["keyPair"]
        imported = (await client.get_key_pair(keyPairName="brought"))["keyPair"]
        with Refusal() as refusal:
            await client.get_key_pair(keyPairName="nobody")
    assert created["fingerprint"] == digest(keys / "team-key.pem", "pkcs8 -topk8 -nocrypt -outform DER", "sha1")
    assert imported["fingerprint"] == digest(keys / "team-key.pem", "pkey -pubout -outform DER", "md5")
    assert created["location"]["availabilityZone"] == "all"
    assert created["supportCode"] == "123456789012/team-key"
    assert refusal.code == "NotFoundException"


def digest(key: Path, form: str, algorithm: str) -> str:
    """Compute a fingerprint as one does by hand, with openssl."""
    der = subprocess.run(["openssl", *form.split(), "-in", key], capture_output=True, check=True).stdout
    shown = subprocess.run(["openssl", algorithm, "-c"], input=der, capture_output=True, check=True).stdout
    return shown.decode().rpartition("= ")[2].strip()


async def test_the_synchronous_sdk_reads_every_operation(emulator: Emulator) -> None:
    answers = await asyncio.to_thread(walk, emulator.url)
    assert len(answers["getInstances"]) == 7
    assert len(answers["getBlueprints"]) == 36
    assert answers["state"]["name"] == "running"
    assert answers["identity"]["Account"] == "123456789012"


def walk(url: str) -> Mapping[str, Any]:
    session = boto3.Session(aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET, region_name="eu-west-1")
    client = session.client("lightsail", endpoint_url=url)
    for operation in ("get_instance", "get_instance_port_states", "get_instance_access_details"):
        getattr(client, operation)(instanceName="win-1")
    client.get_key_pair(keyPairName="team-key")
    client.get_regions()
    return {
        "getInstances": list(client.get_paginator("get_instances").paginate().search("instances[]")),
        "getBlueprints": list(client.get_paginator("get_blueprints").paginate().search("blueprints[]")),
        "getBundles": list(client.get_paginator("get_bundles").paginate().search("bundles[]")),
        "getKeyPairs": list(client.get_paginator("get_key_pairs").paginate().search("keyPairs[]")),
        "state": client.get_instance_state(instanceName="win-1")["state"],
        "identity": session.client("sts", endpoint_url=url).get_caller_identity(),
    }


@pytest.mark.real("aws")
async def test_the_command_line_of_aws_reads_it(emulator: Emulator) -> None:
    listed, identity = await asyncio.gather(
        aws(emulator, "lightsail", "get-blueprints", "--include-inactive"), aws(emulator, "sts", "get-caller-identity")
    )
    assert len(listed["blueprints"]) == 43
    assert identity["Arn"] == "arn:aws:iam::123456789012:user/emulator"


async def aws(emulator: Emulator, *words: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("aws"),
        *words,
        env=os.environ
        | dict(emulator.environment)
        | {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_CONFIG_FILE": os.devnull},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)
