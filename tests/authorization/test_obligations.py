from dataclasses import replace
from datetime import timedelta

import pytest

from broker.authorization.obligations import lifting
from broker.model import Action, Caller, Instance, Obligation, RequestContext
from tests.authorization.quick import quick

MFA, FRESH, REASON, TICKET, APPROVAL = Obligation


def lifted_by(condition: str, caller: Caller, web: Instance, context: RequestContext) -> tuple[Obligation, ...]:
    policies = quick(f'@id("p") permit(principal, action == Action::"ssh", resource) when {{ {condition} }};')
    assert not policies.decide(caller, Action.SSH, web, context).allowed
    return lifting(policies, caller, Action.SSH, web, context)


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
    assert lifting(policies, alice, Action.SSH, web, context) == (REASON, TICKET)


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
