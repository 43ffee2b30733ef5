"""The service keeps to its own description, whatever is asked: Schemathesis makes the questions up from it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok

from tests.end_to_end.places import LINUX, WINDOWS, Place, Running, a_place

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    allow_header_conformance,
]
INSTANCES = [{**LINUX, "name": "web-1"}, {**LINUX, "name": "web-2"}, {**WINDOWS, "name": "win-1"}]
THERE = {"account": "main", "region": "eu-west-1", "name": "web-1", "index": "0"}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path, INSTANCES) as place:
        place.environment |= {
            "BROKER__LIMITS__PER_CALLER_PER_MINUTE": "1000000",
            "BROKER__LIMITS__FAILURES_PER_PEER_PER_MINUTE": "0",
            "BROKER__LIMITS__ISSUES_PER_CALLER_PER_MINUTE": "0",
            "BROKER__LIMITS__INSTANCES_PER_CALLER_PER_HOUR": "0",
        }
        yield place


class Asking:
    """Asks every operation of the description so many questions."""

    def __init__(self, service: Running, ca: Path, document: dict[str, Any], questions: int) -> None:
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["security"] = []  # who asks is our own choice
        self.schema = schemathesis.openapi.from_dict(document)
        self.schema.config.update(base_url=service.url)
        self._ca = str(ca)
        self._questions = questions
        self.seen: Counter[tuple[str, int]] = Counter()
        self.faults: list[str] = []

    def ask_all(self, token: str, mode: GenerationMode) -> None:
        """Put questions that are as described, or that are not; with a token or without one."""
        for operation in self.schema.get_all_operations():
            assert isinstance(operation, Ok)
            self._ask(operation.ok(), token, mode)

    def _ask(self, operation: APIOperation[Any, Any, Any, Any], token: str, mode: GenerationMode) -> None:
        checks = [*CHECKS, negative_data_rejection] if mode == GenerationMode.NEGATIVE and token else CHECKS
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        last = ""

        @settings(
            max_examples=self._questions,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def put(case: Case[Any]) -> None:
            nonlocal last
            if mode == GenerationMode.POSITIVE and token:
                name_what_is_there(case)
            response = case.call(verify=self._ca, headers=headers, timeout=30)
            last = f"{case.as_curl_command()}\n{response.status_code} {response.text}"
            self.seen[f"{case.method} {case.path}", response.status_code] += 1
            if response.status_code != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:  # refused, whatever is in it
                case.validate_response(response, checks=checks)
            assert token or not case.path.startswith("/v1/") or response.status_code in {400, 401, 404}

        try:
            put()
        except Unsatisfiable:
            return  # there is no wrong way to ask for what takes nothing
        except FailureGroup as group:
            self.faults += [f"{operation.label}: {fault}\n{last}" for fault in group.exceptions]


def name_what_is_there(case: Case[Any]) -> None:
    """Ask about what there is; made-up names are for the other questions."""
    if isinstance(case.body, dict) and "instance" in case.body:
        case.body["instance"] = "web-1"
    for name in set(case.path_parameters or {}) & set(THERE):
        case.path_parameters[name] = THERE[name]


async def conformance(place: Place, questions: int) -> Asking:
    async with place.serving() as service:
        _, document = await service.ask("/openapi.json", token="")
        asking = Asking(service, place.folder / "ca.pem", document, questions)
        for token in (place.token, ""):
            for mode in GenerationMode:
                await asyncio.to_thread(asking.ask_all, token, mode)
        assert (await service.issue("web-2"))[0] == 201
        assert await service.stop() == 0
    assert "unexpected failure" not in place.log
    assert (await place.verify("--require-sealed")).code == 0
    return asking


async def test_whatever_is_asked_is_answered_as_described(place: Place) -> None:
    asking = await conformance(place, 12)
    assert not asking.faults, "\n\n".join(asking.faults)
    assert {status for _, status in asking.seen} >= {200, 201, 400, 401, 404}, asking.seen


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_whatever_is_asked_very_often_is_answered_as_described(place: Place) -> None:
    asking = await conformance(place, 150)
    assert not asking.faults, "\n\n".join(asking.faults)
