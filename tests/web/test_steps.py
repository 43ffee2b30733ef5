"""A denial that more would lift: the challenge of RFC 9470, the steps in the problem, and what a decision explains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from broker.issuing.desk import Asking
from broker.issuing.refusals import refusal
from broker.model import Decision, Nearest, Obligation, PolicySource, Step
from tests.doubles.web import GivingDesk
from tests.web.conftest import GOOD, Hall

BODY = {"instance": "web-1"}
MFA = Step(obligation=Obligation.MFA, acr_values=("phr", "phrh"))
FRESH = Step(obligation=Obligation.FRESH_LOGIN, max_age=900)
TICKET = Step(obligation=Obligation.TICKET, pattern="OPS-*")
APPROVAL = Step(obligation=Obligation.APPROVAL, approvals=2, approvers=("group corp/ops",))
SENTENCE = "A stronger or more recent login is required."


def denied(*steps: Step) -> Decision:
    return Decision(allowed=False, steps=steps)


async def refused(hall: Hall, *steps: Step) -> tuple[ClientResponse, dict[str, Any]]:
    hall.desk.error = refusal(denied(*steps))
    async with TestClient(hall.server()) as client:
        response = await client.post("/v1/credentials", json=BODY, headers=GOOD)
        document: dict[str, Any] = await response.json(content_type=None)
        return response, document


@pytest.mark.parametrize(
    ("steps", "asked"),
    [
        ((MFA,), ', acr_values="phr phrh"'),
        ((FRESH,), ', max_age="900"'),
        ((MFA, FRESH), ', acr_values="phr phrh", max_age="900"'),
        ((Step(obligation=Obligation.MFA),), ""),
        ((Step(obligation=Obligation.FRESH_LOGIN, max_age=0), TICKET), ', max_age="0"'),
        ((Step(obligation=Obligation.MFA, acr_values=('a"b\\\r\nc',)),), ', acr_values="abc"'),
    ],
)
async def test_a_login_is_asked_for_as_the_rfc_has_it(steps: tuple[Step, ...], asked: str, hall: Hall) -> None:
    response, document = await refused(hall, *steps)
    assert (response.status, document["code"]) == (401, "step_up_required")
    bearer, dpop = response.headers.getall("WWW-Authenticate")
    wanted = f'error="insufficient_user_authentication", error_description="{SENTENCE}"{asked}, '
    assert bearer.startswith(f"Bearer {wanted}resource_metadata=")
    assert dpop.startswith(f"DPoP {wanted}algs=")


async def test_what_else_is_needed_stands_in_the_body_for_people_and_programs(hall: Hall) -> None:
    _, document = await refused(hall, MFA, FRESH, TICKET, APPROVAL)
    assert document["steps"] == [
        {"obligation": "mfa", "acr_values": ["phr", "phrh"]},
        {"obligation": "fresh_login", "max_age": 900},
        {"obligation": "ticket", "pattern": "OPS-*"},
        {"obligation": "approval", "approvals": 2, "approvers": ["group corp/ops"]},
    ]
    assert document["next"] == (
        "To get in, log in again with a second factor (at most 15 minutes ago), give a ticket like OPS-* and have it"
        " approved by 2 people of group corp/ops."
    )


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (Step(obligation=Obligation.REASON), "reason_required"),
        (TICKET, "ticket_required"),
        (APPROVAL, "approval_required"),
        (Step(obligation=Obligation.REVIEW), "review_required"),
    ],
)
async def test_without_a_login_among_the_steps_there_is_no_challenge(step: Step, code: str, hall: Hall) -> None:
    response, document = await refused(hall, step)
    assert (response.status, document["code"], document["steps"][0]["obligation"]) == (403, code, step.obligation)
    assert "WWW-Authenticate" not in response.headers


async def test_a_plain_denial_has_no_steps(hall: Hall) -> None:
    response, document = await refused(hall)
    assert (response.status, document["code"]) == (403, "denied")
    assert "steps" not in document
    assert "next" not in document


@dataclass
class DecidingDesk(GivingDesk):
    """Says of every request what it was told to."""

    decision: Decision = field(default_factory=denied)

    def __post_init__(self) -> None:
        super().__init__()

    async def preview(self, asking: Asking) -> Decision:
        self.asked.append(asking)
        return self.decision


async def explained(decision: Decision) -> Any:
    hall = Hall(desk=DecidingDesk(decision=decision))
    async with TestClient(hall.server()) as client:
        return await (await client.post("/v1/decisions", json=BODY, headers=GOOD)).json()


async def test_a_decision_names_the_policies_with_their_places() -> None:
    place = PolicySource(id="ops-ssh", file="10-operators.cedar", line=4)
    assert await explained(Decision(allowed=True, policies=("ops-ssh",), sources=(place,))) == {
        "decision": "allow",
        "policies": ["ops-ssh"],
        "obligations": [],
        "deciding": [{"id": "ops-ssh", "file": "10-operators.cedar", "line": 4}],
    }


async def test_a_decision_tells_the_names_as_ever_and_the_steps_beside() -> None:
    assert await explained(denied(FRESH, TICKET)) == {
        "decision": "deny",
        "policies": [],
        "obligations": ["fresh_login", "ticket"],
        "steps": [{"obligation": "fresh_login", "max_age": 900}, {"obligation": "ticket", "pattern": "OPS-*"}],
    }


async def test_the_nearest_policy_comes_with_its_steps() -> None:
    forbid = PolicySource(id="night", file="90-guard-rails.cedar", line=7)
    nearest = Nearest(group="ops", policies=("ops-ssh",), steps=(TICKET,))
    decision = Decision(allowed=False, policies=("night",), sources=(forbid,), nearest=nearest)
    assert await explained(decision) == {
        "decision": "deny",
        "policies": [],
        "obligations": [],
        "deciding": [{"id": "night", "file": "90-guard-rails.cedar", "line": 7}],
        "forbidden_by": ["night"],
        "nearest": {
            "group": "ops",
            "policies": ["ops-ssh"],
            "obligations": ["ticket"],
            "steps": [{"obligation": "ticket", "pattern": "OPS-*"}],
        },
    }
