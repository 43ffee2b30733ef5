from dataclasses import replace
from datetime import timedelta

import pytest

from broker.authorization.obligations import liftable, lifting
from broker.model import Action, Caller, Instance, Obligation, RequestContext, Step
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


def test_an_approval_says_how_many_and_of_whom(alice: Caller, web: Instance, context: RequestContext) -> None:
    text = """
        @id("p") permit(principal, action == Action::"ssh", resource) when { context.approvals >= 2 };
        @id("ops") permit(principal in Group::"corp/ops", action == Action::"approve", resource)
        when { context.mfa && context.reason != "" };
        @id("bob") permit(principal == User::"corp/bob", action == Action::"approve", resource);
        @id("not-here") permit(
          principal in Group::"corp/far", action == Action::"approve", resource == Instance::"main/eu-west-1/x"
        );
        @id("never") permit(principal in Group::"corp/never", action == Action::"approve", resource);
        @id("f") forbid(principal in Group::"corp/never", action, resource);
    """
    (step,) = exactly(text, alice, web, context)
    assert step == Step(obligation=APPROVAL, approvals=2, approvers=("group corp/ops", "corp/bob"))
