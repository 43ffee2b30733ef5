"""AWS in trouble, seen from outside: what callers get, and that the log tells of every credential AWS may have made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.emulator import parse_faults
from tests.end_to_end.places import LINUX, Place, a_place, eventually

MINT = "GetInstanceAccessDetails"
TROUBLE: dict[str, tuple[str, int, tuple[int, str]]] = {
    # an instance: its fault, how often, and what callers get as long as it lasts
    "busy-once": ("throttle", 1, (201, "")),
    "busy": ("throttle", 6, (503, "upstream_unavailable")),
    "broken": ("error:ServiceException", 6, (503, "upstream_unavailable")),
    "lost": ("drop", 2, (503, "upstream_unavailable")),
    "torn": ("malformed", 2, (502, "upstream_error")),
    "slow": ("delay:700ms", 2, (201, "")),
    "starting": ("error:OperationFailureException", 2, (409, "instance_not_running")),
    "gone": ("error:NotFoundException", 2, (403, "denied")),
    "forbidden": ("error:AccessDeniedException", 2, (502, "upstream_error")),
    "new-region": ("error:RegionSetupInProgressException", 2, (503, "upstream_unavailable")),
    "clock": ("error:RequestTimeTooSkewed", 2, (502, "upstream_error")),
    "well": ("", 0, (201, "")),
}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path, [{**LINUX, "name": name} for name in TROUBLE]) as place:
        place.environment |= {
            "BROKER__LIMITS__PER_CALLER_PER_MINUTE": "1000",
            "BROKER__LIMITS__ISSUES_PER_CALLER_PER_MINUTE": "0",
            "BROKER__LIMITS__INSTANCES_PER_CALLER_PER_HOUR": "0",
        }
        yield place


def trouble(place: Place, name: str, kind: str, times: int) -> None:
    place.emulator.faults.add(parse_faults([{"operation": MINT, "instance": name, "kind": kind, "times": times}]))


def minted(place: Place) -> int:
    """Count how often AWS was asked for a credential."""
    return sum(call.operation == MINT for call in place.emulator.calls)


def told(event: dict[str, Any]) -> int:
    """Answer how many calls of AWS an event tells of."""
    return int(event.get("details", {}).get("attempts", 1))


async def test_in_a_storm_everybody_gets_the_right_answer_and_the_log_tells_of_every_call(place: Place) -> None:
    for name, (kind, times, _) in TROUBLE.items():
        if kind:
            trouble(place, name, kind, times)
    async with place.serving() as service:
        answers = dict(zip(TROUBLE, await asyncio.gather(*map(service.issue, TROUBLE)), strict=True))
        for name, (_, _, (status, code)) in TROUBLE.items():
            assert (answers[name][0], answers[name][1].get("code", "")) == (status, code), name
        place.emulator.faults.clear()
        again = await asyncio.gather(*map(service.issue, TROUBLE))
        assert {status for status, _ in again} == {201}
        assert await service.stop() == 0
    events = await place.events()
    asked = [event for event in events if event["event"] == "credential.requested"]
    ended = [event for event in events if event["event"] in {"credential.issued", "credential.failed"}]
    assert len(asked) == len(ended) == 2 * len(TROUBLE)
    assert sum(map(told, ended)) == minted(place)
    failed = {
        event["instance"]["name"]: event.get("details", {}).get("upstream_code")
        for event in ended
        if event["outcome"] == "failure"
    }
    assert failed == {
        "busy": "ThrottlingException",
        "broken": "ServiceException",
        "lost": None,
        "torn": None,
        "starting": "OperationFailureException",
        "gone": "NotFoundException",
        "forbidden": "AccessDeniedException",
        "new-region": "RegionSetupInProgressException",
        "clock": "RequestTimeTooSkewed",
    }
    assert {event["instance"]["name"] for event in ended if not event.get("upstream_request_id")} == {"lost"}
    assert (await place.verify("--require-sealed")).code == 0


async def test_where_every_other_call_fails_the_others_go_through(place: Place) -> None:
    trouble(place, "broken", "error:ServiceException", 0)
    async with place.serving() as service:
        for _ in range(6):
            assert (await service.issue("broken"))[0] == 503
            assert (await service.issue("well"))[0] == 201
        assert await service.stop() == 0


async def test_while_a_region_is_given_up_nothing_is_sent_to_it_and_afterwards_one_call_tries(place: Place) -> None:
    trouble(place, "broken", "error:ServiceException", 0)
    async with place.serving() as service:
        answers = [await service.issue("broken") for _ in range(5)]
        calls = minted(place)
        assert calls == 3 * 5
        given_up = await asyncio.gather(*(service.issue("well") for _ in range(20)))
        assert {(status, document["code"]) for status, document in given_up} == {(503, "upstream_unavailable")}
        assert all(int(document["retry_after"]) <= 5 for _, document in given_up if "retry_after" in document)
        assert minted(place) == calls
        assert (await service.ask("/healthz"))[0] == 200

        async def one_gets_through() -> bool:
            return (await service.issue("well"))[0] == 201

        await eventually(one_gets_through)
        assert minted(place) == calls + 1
        assert {status for status, _ in answers} == {503}
        assert await service.stop() == 0
