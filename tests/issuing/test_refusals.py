"""The one sentence that says what would help."""

import pytest

from broker import errors
from broker.issuing.refusals import refusal
from broker.model import Decision, Obligation, Step

MFA, FRESH, REASON, TICKET, APPROVAL, REVIEW = (Step(obligation=each) for each in Obligation)


def fresh(seconds: int) -> Step:
    return Step(obligation=Obligation.FRESH_LOGIN, max_age=seconds)


def approval(count: int, *whom: str) -> Step:
    return Step(obligation=Obligation.APPROVAL, approvals=count, approvers=whom)


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ((MFA,), "log in again with a second factor"),
        ((FRESH,), "log in again"),
        ((MFA, fresh(900)), "log in again with a second factor (at most 15 minutes ago)"),
        ((fresh(60),), "log in again (at most 1 minute ago)"),
        ((fresh(59),), "log in again (at most 59 seconds ago)"),
        ((fresh(119),), "log in again (at most 1 minute ago)"),
        ((fresh(1),), "log in again (at most 1 second ago)"),
        ((REASON, TICKET), "give a reason and give a ticket"),
        ((Step(obligation=Obligation.TICKET, pattern="OPS-*"),), "give a ticket like OPS-*"),
        ((REASON, TICKET, APPROVAL), "give a reason, give a ticket and have it approved by somebody"),
        ((approval(1, "group corp/ops"),), "have it approved by somebody of group corp/ops"),
        (
            (approval(2, "group corp/ops", "group corp/sre"),),
            "have it approved by 2 people of group corp/ops or group corp/sre",
        ),
        ((approval(1, "group corp/ops", "corp/bob"),), "have it approved by somebody: group corp/ops or corp/bob"),
        ((REVIEW,), "have your last break-glass use reviewed"),
    ],
)
def test_it_says_exactly_what_to_do(steps: tuple[Step, ...], sentence: str) -> None:
    error = refusal(Decision(allowed=False, steps=steps))
    assert error.next_step == f"To get in, {sentence}."
    assert error.steps == steps


def test_the_first_step_names_the_refusal() -> None:
    kinds = [type(refusal(Decision(allowed=False, steps=(step,)))) for step in (MFA, FRESH, REASON, TICKET, APPROVAL)]
    step_up = errors.StepUpRequired
    assert kinds == [step_up, step_up, errors.ReasonRequired, errors.TicketRequired, errors.ApprovalRequired]


def test_without_steps_it_is_a_plain_denial() -> None:
    error = refusal(Decision(allowed=False, errors=("attribute missing",)))
    assert (type(error), error.cause, error.next_step, error.steps) == (errors.Denied, "attribute missing", "", ())
