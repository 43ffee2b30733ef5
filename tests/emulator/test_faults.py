from __future__ import annotations

import json
import time
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError

from broker.emulator import Emulator, FixtureError, parse_faults
from tests.emulator.clients import Refusal, lightsail


async def meet(emulator: Emulator, fault: dict[str, Any]) -> Refusal:
    """Have a call meet a fault; answer how the SDK was refused."""
    emulator.faults.add(parse_faults(fault))
    async with lightsail(emulator) as client:
        with Refusal() as refusal:
            await client.get_instances()
    return refusal


async def test_throttling_looks_as_aws_s(emulator: Emulator) -> None:
    refusal = await meet(emulator, {"kind": "throttle"})
    assert (refusal.code, refusal.status, refusal.message) == ("ThrottlingException", 400, "Rate exceeded")


@pytest.mark.parametrize(("error_type", "status"), [("AccessDeniedException", 400), ("ServiceException", 500)])
async def test_any_error_can_be_asked_for(emulator: Emulator, error_type: str, status: int) -> None:
    refusal = await meet(emulator, {"kind": f"error:{error_type}"})
    assert (refusal.code, refusal.status) == (error_type, status)


async def test_any_status_can_be_asked_for(emulator: Emulator) -> None:
    refusal = await meet(emulator, {"kind": "status:503"})
    assert (refusal.code, refusal.status) == ("503", 503)


async def test_a_dropped_connection_has_no_answer(emulator: Emulator) -> None:
    emulator.faults.add(parse_faults({"kind": "drop"}))
    async with lightsail(emulator) as client:
        with pytest.raises((ConnectionClosedError, HTTPClientError)):
            await client.get_instances()
    assert emulator.calls[-1].answered == "drop"


async def test_a_malformed_answer_is_cut_off_in_the_middle(emulator: Emulator) -> None:
    emulator.faults.add(parse_faults({"kind": "malformed"}))
    async with lightsail(emulator) as client:
        answer = await client.get_instance_access_details(instanceName="web-1")
    assert "accessDetails" not in answer  # botocore shows what it cannot parse as an empty answer


async def test_a_delayed_answer_comes_late_and_whole(emulator: Emulator) -> None:
    emulator.faults.add(parse_faults({"kind": "delay:300ms"}))
    async with lightsail(emulator) as client:
        began = time.monotonic()
        answer = await client.get_instance(instanceName="web-1")
    assert time.monotonic() - began >= 0.3
    assert answer["instance"]["name"] == "web-1"
    assert emulator.calls[-1].answered == "ok"


async def test_the_sdk_gets_through_faults_that_pass(emulator: Emulator) -> None:
    emulator.faults.add(parse_faults([{"kind": "throttle", "times": 1}, {"kind": "status:500", "times": 1}]))
    answered = []
    async with lightsail(emulator) as client:
        for _ in range(3):
            try:
                await client.get_instances()
            except ClientError as error:
                answered.append(error.response["Error"]["Code"])
            else:
                answered.append("ok")
    assert answered == ["ThrottlingException", "500", "ok"]


async def test_a_fault_without_times_lasts_until_it_is_cleared(emulator: Emulator) -> None:
    for _ in range(4):
        await meet(emulator, {"kind": "throttle"})
    emulator.faults.clear()
    async with lightsail(emulator) as client:
        assert (await client.get_instances())["instances"]


async def test_a_fault_hits_only_its_operation_and_its_instance(emulator: Emulator) -> None:
    emulator.faults.add(parse_faults({"operation": "GetInstance", "instance": "web-1", "kind": "throttle"}))
    async with lightsail(emulator) as client:
        await client.get_instance(instanceName="old")
        await client.get_instance_state(instanceName="web-1")
        with Refusal() as refusal:
            await client.get_instance(instanceName="web-1")
    assert refusal.code == "ThrottlingException"


async def test_a_stranger_uses_up_no_fault(emulator: Emulator) -> None:
    emulator.faults.add(parse_faults({"kind": "throttle", "times": 1}))
    async with lightsail(emulator, secret="other") as client:
        with Refusal() as stranger:
            await client.get_instances()
    async with lightsail(emulator) as client:
        with Refusal() as caller:
            await client.get_instances()
    assert (stranger.code, caller.code) == ("InvalidSignatureException", "ThrottlingException")


async def test_faults_come_and_go_over_http(emulator: Emulator) -> None:
    faults = f"{emulator.url}/_emulator/faults"
    async with aiohttp.ClientSession() as http, lightsail(emulator) as client:
        one = {"operation": "GetInstances", "kind": "throttle", "times": 1}
        async with http.post(faults, json=one) as added:
            assert added.status == 201
        async with http.post(faults, json=[one | {"kind": "error:ServiceException", "times": 0}]) as added:
            assert added.status == 201
        with Refusal() as first:
            await client.get_instances()
        with Refusal() as second:
            await client.get_instances()
        async with http.delete(faults) as cleared:
            assert cleared.status == 204
        await client.get_instances()
    assert (first.code, second.code) == ("ThrottlingException", "ServiceException")


@pytest.mark.parametrize("body", ["{", '{"kind": "explode"}', '{"times": 1}', '[{"kind": "drop", "x": 1}]', "7"])
async def test_a_fault_that_makes_no_sense_is_refused(emulator: Emulator, body: str) -> None:
    async with aiohttp.ClientSession() as http, http.post(f"{emulator.url}/_emulator/faults", data=body) as answer:
        assert answer.status == 400


@pytest.mark.parametrize(
    "kind", ["error:", "error:A B", "status:99", "status:abc", "delay:soon", "delay:", "throttle:1", ""]
)
def test_kinds_of_faults_are_checked(kind: str) -> None:
    with pytest.raises(FixtureError, match="kind"):
        parse_faults({"kind": kind})


async def test_calls_are_told_over_http(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        await client.get_instance_access_details(instanceName="web-1", protocol="ssh")
        with Refusal():
            await client.get_instance(instanceName="missing")
    async with aiohttp.ClientSession() as http, http.get(f"{emulator.url}/_emulator/calls") as answer:
        first, second = json.loads(await answer.read())
    assert {"operation", "instance", "protocol", "at", "answered"} <= set(first)
    assert (first["operation"], first["instance"], first["protocol"]) == ("GetInstanceAccessDetails", "web-1", "ssh")
    assert (first["answered"], second["answered"]) == ("ok", "NotFoundException")
    assert first["at"].endswith("Z")
