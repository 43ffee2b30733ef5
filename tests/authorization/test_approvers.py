"""Who could approve, as a refusal tells it."""

from dataclasses import replace

from broker.authorization.approvers import MAX_APPROVERS, approvers
from broker.authorization.obligations import lifting
from broker.model import Action, Caller, Instance, Obligation, RequestContext, Step
from tests.authorization.quick import quick

LIST = '@id("list") permit(principal, action == Action::"list", resource);'
TWO = '@id("two") permit(principal, action == Action::"ssh", resource) when { context.approvals >= 2 };'
APPROVERS = """
    @id("ops") permit(principal in Group::"corp/ops", action == Action::"approve", resource)
    when { context.mfa && context.reason != "" && context has login_age && context.login_age <= 60 };
    @id("bob") permit(principal == User::"corp/bob", action == Action::"approve", resource);
    @id("robot") permit(principal == Workload::"ci/robot", action == Action::"approve", resource);
    @id("not-here") permit(
      principal in Group::"corp/far", action == Action::"approve", resource == Instance::"main/eu-west-1/x"
    );
    @id("never") permit(principal in Group::"corp/never", action == Action::"approve", resource);
    @id("f") forbid(principal in Group::"corp/never", action, resource);
"""


def test_an_approval_says_how_many_and_of_whom(alice: Caller, web: Instance, context: RequestContext) -> None:
    (step,) = lifting(quick(LIST + TWO + APPROVERS), alice, Action.SSH, web, context)
    whom = ("group corp/ops", "corp/bob", "ci/robot")
    assert step == Step(obligation=Obligation.APPROVAL, approvals=2, approvers=whom)


def test_who_may_not_list_the_instance_learns_nobodys_name(
    alice: Caller, web: Instance, context: RequestContext
) -> None:
    (step,) = lifting(quick(TWO + APPROVERS), alice, Action.SSH, web, context)
    assert step == Step(obligation=Obligation.APPROVAL, approvals=2)


def test_what_one_is_oneself_lends_nothing_to_others(alice: Caller, web: Instance, context: RequestContext) -> None:
    mine = """
        @id("mine") permit(principal in Group::"corp/other", action == Action::"approve", resource)
        when { principal in Group::"corp/ops" };
    """
    assert approvers(quick(LIST + mine), replace(alice, groups=("ops",)), web, context) == ()


def test_a_long_list_is_cut(alice: Caller, web: Instance, context: RequestContext) -> None:
    many = "".join(
        f'@id("g{n}") permit(principal in Group::"corp/g{n}", action == Action::"approve", resource);'
        for n in range(MAX_APPROVERS + 5)
    )
    assert len(approvers(quick(LIST + many), alice, web, context)) == MAX_APPROVERS
