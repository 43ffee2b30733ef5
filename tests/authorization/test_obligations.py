from dataclasses import replace
from datetime import timedelta

import pytest

from broker.authorization.obligations import MAX_APPROVALS, MAX_TEXTS, liftable, lifting
from broker.authorization.snapshot import PolicySnapshot
from broker.model import Action, Caller, Decision, Instance, Obligation, RequestContext, Step
from tests.authorization.quick import quick

MFA, FRESH, REASON, TICKET, APPROVAL, _ = Obligation


def named(steps: tuple[Step, ...]) -> tuple[Obligation, ...]:
    return tuple(step.obligation for step in steps)


def lifted_by(condition: str, caller: Caller, web: Instance, context: RequestContext) -> tuple[Obligation, ...]:
    policies = quick(f'@id("p") permit(principal, action == Action::"ssh", resource) when {{ {condition} }};')
    assert not policies.decide(caller, Action.SSH, web, context).allowed
    found = lifting(policies, caller, Action.SSH, web, context)
    assert liftable(policies, caller, Action.SSH, web, context) == bool(found)
    return named(lifting(policies, caller, Action.SSH, web, context))


RECENT = "context has login_age && context.login_age <= 300"


@pytest.mark.parametrize(
    ("condition", "needed"),
    [
        ("context.mfa", (MFA,)),
        (RECENT, (FRESH,)),
        (f"context.mfa && {RECENT}", (MFA, FRESH)),
        ('context.reason != ""', (REASON,)),
        ('context.ticket != ""', (TICKET,)),
        ('context.ticket like "OPS-*"', (TICKET,)),
        ('context.reason like "?*" && context.ticket like "A*" && context.mfa', (MFA, REASON, TICKET)),
        ("context.approvals >= 1", (APPROVAL,)),
        ("context.approvals >= 5", (APPROVAL,)),
        (
            'context.mfa && context.reason != "" && context.ticket != "" && context.approvals > 1',
            (MFA, REASON, TICKET, APPROVAL),
        ),
        ('context.mfa || context.reason != ""', (MFA,)),
        ('context.reason != "" || context.approvals > 0', (REASON,)),
        ("context.approvals >= 6", ()),
        ("context.break_glass", ()),
        ("context.bound", ()),
        ("false", ()),
    ],
)
def test_the_least_that_would_do_is_named_in_the_order_of_the_contract(
    condition: str, needed: tuple[Obligation, ...], alice: Caller, web: Instance, context: RequestContext
) -> None:
    assert lifted_by(condition, alice, web, context) == needed


def test_what_is_given_already_is_not_asked_for(alice: Caller, web: Instance, context: RequestContext) -> None:
    caller = replace(alice, mfa=True)
    given = replace(context, reason="why", approvals=1)
    condition = 'context.mfa && context.reason != "" && context.approvals >= 2 && context.ticket != ""'
    assert lifted_by(condition, caller, web, given) == (TICKET, APPROVAL)


def test_a_login_of_unknown_age_can_be_a_fresh_one(alice: Caller, web: Instance, context: RequestContext) -> None:
    assert lifted_by(RECENT, replace(alice, authenticated_at=None), web, context) == (FRESH,)


def test_an_old_second_factor_asks_for_a_fresh_login_only(
    alice: Caller, web: Instance, context: RequestContext
) -> None:
    caller = replace(alice, mfa=True, authenticated_at=context.now - timedelta(days=1))
    assert lifted_by(f"context.mfa && {RECENT}", caller, web, context) == (FRESH,)


def test_a_program_is_never_asked_to_log_in_again(alice: Caller, web: Instance, context: RequestContext) -> None:
    robot = replace(alice, kind="workload")
    assert lifted_by("context.mfa", robot, web, context) == ()
    assert lifted_by('context.ticket != ""', robot, web, context) == (TICKET,)


def test_a_forbid_that_more_can_lift_is_lifted(alice: Caller, web: Instance, context: RequestContext) -> None:
    policies = quick("""
        @id("p") permit(principal, action == Action::"ssh", resource) when { context.reason != "" };
        @id("f") forbid(principal, action == Action::"ssh", resource) unless { context.ticket like "OPS-*" };
    """)
    assert named(lifting(policies, alice, Action.SSH, web, context)) == (REASON, TICKET)


def test_a_forbid_that_nothing_lifts_leaves_nothing_to_do(
    alice: Caller, web: Instance, context: RequestContext
) -> None:
    policies = quick("""
        @id("p") permit(principal, action == Action::"ssh", resource) when { context.mfa };
        @id("f") forbid(principal, action == Action::"ssh", resource) when { resource.state == "running" };
    """)
    assert lifting(policies, alice, Action.SSH, web, context) == ()


def test_an_error_along_the_way_is_no_permit(alice: Caller, web: Instance, context: RequestContext) -> None:
    condition = "context.mfa && context.approvals + 9223372036854775807 > 0"
    policies = quick(f"""
        @id("p") permit(principal, action == Action::"ssh", resource) when {{ {condition} }};
    """)
    asked = replace(context, approvals=1)
    assert lifting(policies, alice, Action.SSH, web, asked) == ()


def test_without_a_permit_in_reach_nothing_is_asked(alice: Caller, web: Instance, context: RequestContext) -> None:
    policies = quick('@id("p") permit(principal in Group::"corp/other", action, resource) when { context.mfa };')
    assert lifting(policies, alice, Action.SSH, web, context) == ()


def exactly(policies: str, caller: Caller, web: Instance, context: RequestContext) -> tuple[Step, ...]:
    return lifting(quick(policies), caller, Action.SSH, web, context)


@pytest.mark.parametrize(
    ("condition", "max_age"),
    [
        ("context.login_age <= 900", 900),
        ("context.login_age < 60", 59),
        ("context.login_age == 0", 0),
        ('context.login_age <= 900 || context.login_age <= 3600 && resource.name == "web-1"', 3600),
        ("true", None),
    ],
)
def test_a_fresh_login_is_asked_for_as_old_as_it_may_be(
    condition: str, max_age: int | None, alice: Caller, web: Instance, context: RequestContext
) -> None:
    known = f"context has login_age && ({condition})"
    text = f'@id("p") permit(principal, action == Action::"ssh", resource) when {{ {known} }};'
    old = replace(alice, authenticated_at=context.now - timedelta(days=2) if max_age is not None else None)
    assert exactly(text, old, web, context) == (Step(obligation=FRESH, max_age=max_age),)


def test_a_text_is_asked_for_as_the_policy_has_it(alice: Caller, web: Instance, context: RequestContext) -> None:
    text = """
        @id("p") permit(principal, action, resource)
        when { context.ticket like "OPS-*" && context.reason like "*\\*?*" };
    """
    reason, ticket = exactly(text, alice, web, context)
    assert (reason, ticket) == (Step(obligation=REASON, pattern="*\\*?*"), Step(obligation=TICKET, pattern="OPS-*"))


def test_any_text_will_do_where_one_policy_takes_any(alice: Caller, web: Instance, context: RequestContext) -> None:
    text = """
        @id("a") permit(principal, action, resource) when { context.ticket like "OPS-*" };
        @id("b") permit(principal, action, resource) when { context.ticket != "" };
    """
    assert exactly(text, alice, web, context) == (Step(obligation=TICKET),)


def test_any_text_will_do_beside_an_approval_where_only_another_policy_has_a_pattern(
    alice: Caller, web: Instance, context: RequestContext
) -> None:
    text = """
        @id("a") permit(principal, action, resource) when { context.ticket != "" && context.approvals >= 2 };
        @id("b") permit(principal, action, resource) when { context.ticket like "OPS-*" && false };
    """
    assert exactly(text, alice, web, context)[0] == Step(obligation=TICKET)


@pytest.mark.parametrize("wanted", ["A-*", "B-*"])
def test_of_several_patterns_the_one_is_told_that_an_approval_goes_with(
    wanted: str, alice: Caller, web: Instance, context: RequestContext
) -> None:
    text = f"""
        @id("p") permit(principal, action, resource)
        when {{ context.ticket like "A-*" || context.ticket like "B-*" }}
        when {{ context.ticket like "{wanted}" && context.approvals >= 3 }};
    """
    ticket, approval = exactly(text, alice, web, context)
    assert (ticket, approval.approvals) == (Step(obligation=TICKET, pattern=wanted), 3)


def test_a_ticket_that_fits_already_is_not_asked_for_again(
    alice: Caller, web: Instance, context: RequestContext
) -> None:
    text = '@id("p") permit(principal, action, resource) when { context.ticket like "A-*" && context.approvals >= 1 };'
    (step,) = exactly(text, alice, web, replace(context, ticket="A-77"))
    assert (step.obligation, step.approvals) == (APPROVAL, 1)


def test_however_many_patterns_there_are_only_so_many_questions_are_asked(
    alice: Caller, web: Instance, context: RequestContext
) -> None:
    text = "".join(
        f'@id("p{n}") permit(principal, action, resource)'
        f'when {{ context.bound && (context.reason like "r{n}*" || context.ticket like "t{n}*") }};'
        for n in range(2 * MAX_TEXTS)
    )
    counted = Counted(quick(text))
    assert not liftable(counted, alice, Action.SSH, web, context)
    assert counted.questions == 2 + MAX_TEXTS * (2 + MAX_APPROVALS)


class Counted(PolicySnapshot):
    """Counts how often it is asked."""

    def __init__(self, other: PolicySnapshot) -> None:
        super().__init__(other.rules.values(), other.files)
        self.questions = 0

    def decide(self, caller: Caller, action: Action, resource: Instance | str, context: RequestContext) -> Decision:
        self.questions += 1
        return super().decide(caller, action, resource, context)
