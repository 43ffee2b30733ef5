from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from broker.emulator import Emulator
from broker.emulator.shapes import check_output, service_model
from broker.emulator.wires import LIGHTSAIL_OPERATIONS
from tests.emulator.clients import post, signed_headers


async def call(emulator: Emulator, operation: str, body: bytes | dict[str, Any]) -> tuple[int, dict[str, Any]]:
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    target = {"X-Amz-Target": operation, "Content-Type": "application/x-amz-json-1.1"}
    status, headers, answer = await post(emulator, data, signed_headers(emulator, data, target, datetime.now(UTC)))
    assert headers["Content-Type"] == "application/x-amz-json-1.1"
    assert uuid.UUID(headers["x-amzn-RequestId"]).version == 4
    return status, json.loads(answer)


async def refused(emulator: Emulator, operation: str, body: bytes | dict[str, Any]) -> str:
    status, answer = await call(emulator, f"Lightsail_20161128.{operation}", body)
    assert status == 400
    return str(answer["__type"])


async def test_moments_are_epoch_seconds_with_milliseconds(emulator: Emulator) -> None:
    _, answer = await call(emulator, "Lightsail_20161128.GetInstance", {"instanceName": "web-1"})
    moment = answer["instance"]["createdAt"]
    assert isinstance(moment, float)
    assert abs(moment - datetime.now(UTC).timestamp()) < 60
    assert re.fullmatch(r"\d{10}(\.\d{1,3})?", repr(moment))


async def test_an_error_has_the_members_of_the_model(emulator: Emulator) -> None:
    status, answer = await call(emulator, "Lightsail_20161128.GetInstance", {"instanceName": "missing"})
    assert status == 400
    assert answer["__type"] == "NotFoundException"
    assert set(answer) == {"__type", "code", "docs", "message", "tip"}
    assert all(isinstance(text, str) and text for text in answer.values())


@pytest.mark.parametrize(
    "target",
    ["Lightsail_20161128.DeleteInstance", "Lightsail_20161128.Nonsense", "Lightsail_20151128.GetInstance", "", "x"],
)
async def test_an_operation_that_is_not_offered_is_unknown(emulator: Emulator, target: str) -> None:
    status, answer = await call(emulator, target, {})
    assert (status, answer["__type"]) == (400, "UnknownOperationException")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"includeInactive": null, "somethingNew": 1}'])
async def test_null_and_unknown_members_count_as_absent(emulator: Emulator, body: bytes) -> None:
    status, _ = await call(emulator, "Lightsail_20161128.GetBlueprints", body)
    assert status == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 5000, b'"text"'])
async def test_a_body_that_is_no_json_object_is_refused(emulator: Emulator, body: bytes) -> None:
    assert await refused(emulator, "GetInstances", body) == "SerializationException"


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("GetInstance", {"instanceName": 7}),
        ("GetInstance", {"instanceName": ["web-1"]}),
        ("GetInstances", {"pageToken": True}),
        ("GetBlueprints", {"includeInactive": "true"}),
        ("GetBlueprints", {"includeInactive": 1}),
    ],
)
async def test_a_member_of_another_type_is_refused(emulator: Emulator, operation: str, body: dict[str, Any]) -> None:
    assert await refused(emulator, operation, body) == "SerializationException"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instanceName": ""},
        {"instanceName": "x"},
        {"instanceName": "web 1"},
        {"instanceName": "-web"},
        {"instanceName": "wéb-1"},
        {"instanceName": "web-1\n"},
        {"instanceName": "\ud800\ud800"},
        {"instanceName": "w" * 256},
        {"instanceName": "web-1", "protocol": "telnet"},
        {"instanceName": "web-1", "protocol": "SSH"},
    ],
)
async def test_a_member_that_breaks_a_rule_is_refused(emulator: Emulator, body: dict[str, Any]) -> None:
    assert await refused(emulator, "GetInstanceAccessDetails", body) == "InvalidInputException"


async def test_a_huge_body_is_not_read(emulator: Emulator) -> None:
    status, _, _ = await post(emulator, b"x" * 70_000, {"X-Amz-Target": "Lightsail_20161128.GetInstances"})
    assert status == 413


def test_every_operation_that_is_offered_is_in_the_model_of_botocore() -> None:
    model = ServiceModel(Loader().load_service_model("lightsail", "service-2"), "lightsail")
    assert set(model.operation_names) > LIGHTSAIL_OPERATIONS


@pytest.mark.parametrize(
    "answer",
    [
        {"instance": {"nickname": "web"}},
        {"instance": {"name": 7}},
        {"instance": {"tags": {"env": "prod"}}},
        {"instances": []},
        {"instance": {"createdAt": "yesterday"}},
    ],
)
def test_an_answer_that_is_not_of_the_model_is_a_programming_error(answer: dict[str, Any]) -> None:
    operation = service_model("lightsail").operation_model("GetInstance")
    with pytest.raises(TypeError, match="wrong shape"):
        check_output(operation, answer)
