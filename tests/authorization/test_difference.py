"""Who may do what, and what a change of policies changes."""

from dataclasses import replace
from typing import Any

import pytest

from broker.authorization.difference import difference
from broker.authorization.matrix import cells, inventory, principals
from broker.authorization.snapshot import PolicySnapshot
from broker.model import Action, Instance, RequestContext
from tests.authorization.quick import quick

OLD = """
@id("ops") @max_duration("1h") permit(principal in Group::"corp/ops", action == Action::"ssh", resource)
when { context.mfa && context.ticket like "OPS-*" };
@id("team") permit(principal in Group::"corp/developers", action == Action::"ssh", resource)
when { resource.hasTag("team") && principal.groups.contains(resource.getTag("team")) };
@id("deploy") permit(principal == Workload::"ci/deploy", action == Action::"list", resource);
"""


def rows(snapshot: PolicySnapshot, web: Instance, context: RequestContext) -> dict[str, str]:
    found = cells(snapshot, principals([snapshot], context), [web], list(Action), context)
    return {f"{who.name} {question.action}": cell.may for who, question, cell in found if cell.may != "no"}


def test_the_matrix_names_groups_programs_and_whom_tags_make_members(web: Instance, context: RequestContext) -> None:
    assert rows(quick(OLD), replace(web, tags={"team": "web"}), context) == {
        "group corp/ops ssh": "with mfa, ticket OPS-*",
        "group corp/developers and web ssh": "yes",
        "program ci/deploy list": "yes",
    }


def test_a_permit_without_a_principal_is_anybody_s(web: Instance, context: RequestContext) -> None:
    found = rows(quick('@id("p") permit(principal is User, action == Action::"list", resource);'), web, context)
    assert found == {"anybody list": "yes"}


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (("context.mfa && ", ""), {("group corp/ops", "gains")}),
        (("context.mfa && ", "context.mfa && context.approvals >= 2 && "), {("group corp/ops", "loses")}),
        (('"1h"', '"2h"'), {("group corp/ops", "changes")}),
        (('@id("deploy") permit', '@id("deploy") forbid'), {("program ci/deploy", "loses")}),
        (("context.mfa &&\n", "context.mfa  &&"), set()),
    ],
)
def test_a_change_shows_for_whom_it_is_more_or_less(
    change: tuple[str, str], kinds: set[tuple[str, str]], web: Instance, context: RequestContext
) -> None:
    found = difference(quick(OLD), quick(OLD.replace(*change)), [web], [], context)
    assert {(each.who, each.kind) for each in found.changes} >= kinds
    assert bool(found.changes) == bool(kinds) == bool(found.policies)


def test_what_needs_a_broken_glass_shows_with_the_glass_broken(web: Instance, context: RequestContext) -> None:
    new = (
        OLD
        + """@id("glass") permit(principal in Group::"corp/ops", action == Action::"rdp", resource)
        when { context.break_glass && context.mfa };"""
    )
    (change,) = difference(quick(OLD), quick(new), [web], [], context).changes
    assert (change.who, change.when, change.kind) == ("group corp/ops", "breaking the glass", "gains")


def test_an_inventory_is_what_ls_prints() -> None:
    item = {"account": "main", "region": "eu-west-1", "name": "web-1", "platform": "WINDOWS", "tags": {"a": "b"}}
    (found,) = inventory([{**item, "protocols": ["rdp"], "state": "running"}])
    assert (str(found.ref), found.platform, found.tags) == ("main/eu-west-1/web-1", "WINDOWS", {"a": "b"})
    mistakes: tuple[Any, ...] = ({}, [1], [{**item, "platform": "AMIGA"}], [{**item, "tags": {"a": 1}}], [{}])
    for wrong in mistakes:
        with pytest.raises(ValueError, match="inventory"):
            inventory(wrong)
