"""Why not: the group that would have let one in, found by asking again."""

from dataclasses import replace

import pytest

from broker.authorization.nearest import nearest
from broker.model import Action, Caller, Instance, Nearest, Obligation, RequestContext, Step
from tests.authorization.quick import quick


@pytest.fixture
def outsider(alice: Caller) -> Caller:
    return replace(alice, groups=())


def test_the_group_that_the_scope_of_a_policy_names_is_missing(
    outsider: Caller, web: Instance, context: RequestContext
) -> None:
    policies = quick("""
        @id("ops-ssh") permit(principal in Group::"corp/ops", action == Action::"ssh", resource);
        @id("other") permit(principal in Group::"elsewhere/ops", action == Action::"ssh", resource);
    """)
    assert nearest(policies, outsider, Action.SSH, web, context) == Nearest(policies=("ops-ssh",), group="ops")
    assert nearest(policies, outsider, Action.RDP, web, context) is None


def test_a_group_in_a_condition_counts_too(outsider: Caller, web: Instance, context: RequestContext) -> None:
    policies = quick("""
        @id("p") permit(principal, action == Action::"ssh", resource) when { principal in Group::"corp/dev" };
    """)
    found = nearest(policies, outsider, Action.SSH, web, context)
    assert found == Nearest(policies=("p",), group="dev")


def test_the_group_that_needs_less_beside_is_nearer(outsider: Caller, web: Instance, context: RequestContext) -> None:
    policies = quick("""
        @id("a") permit(principal in Group::"corp/a", action == Action::"ssh", resource)
            when { context.reason != "" && context.ticket != "" };
        @id("b") permit(principal in Group::"corp/b", action == Action::"ssh", resource) when { context.reason != "" };
    """)
    found = nearest(policies, outsider, Action.SSH, web, context)
    assert found == Nearest(group="b", policies=("b",), steps=(Step(obligation=Obligation.REASON),))


def test_beside_the_group_every_step_is_told_exactly(outsider: Caller, web: Instance, context: RequestContext) -> None:
    policies = quick("""
        @id("a") permit(principal in Group::"corp/a", action == Action::"ssh", resource)
            when { context has login_age && context.login_age <= 900 && context.ticket like "OPS-*" };
    """)
    found = nearest(policies, outsider, Action.SSH, web, context)
    assert found is not None
    assert found.steps == (
        Step(obligation=Obligation.FRESH_LOGIN, max_age=900),
        Step(obligation=Obligation.TICKET, pattern="OPS-*"),
    )
    assert found.policies == ("a",)


def test_a_forbid_that_stands_anyway_has_nothing_near(outsider: Caller, web: Instance, context: RequestContext) -> None:
    policies = quick("""
        @id("p") permit(principal in Group::"corp/ops", action == Action::"ssh", resource);
        @id("f") forbid(principal, action == Action::"ssh", resource);
    """)
    assert nearest(policies, outsider, Action.SSH, web, context) is None


def test_a_group_that_one_is_in_already_is_not_missing(alice: Caller, web: Instance, context: RequestContext) -> None:
    policies = quick("""
        @id("p") permit(principal in Group::"corp/ops", action == Action::"ssh", resource) when { false };
    """)
    assert nearest(policies, replace(alice, groups=("ops",)), Action.SSH, web, context) is None
