"""Why a question is answered as it is: parts of policies, places, the nearest permit."""

import pytest

from broker.authorization.clauses import clauses
from broker.authorization.explaining import Anatomy, explain
from broker.authorization.questions import Question
from broker.model import Action, Caller, Instance, RequestContext
from tests.authorization.quick import quick

OPS = """
@id("prod") permit (
  principal in Group::"corp/ops",
  action == Action::"ssh",
  resource
)
when { resource.hasTag("env") }
when { resource.getTag("env") == "dev" && (context.mfa || context.bound) && context.reason != "" }
unless { context.ticket == "x" && context.mfa };
"""


def held(anatomy: Anatomy | None) -> list[tuple[str, str, int, int]]:
    assert anatomy
    return [(part.text, part.holding, part.line, part.column) for part in anatomy.parts]


def test_a_chain_of_conditions_is_taken_apart_with_its_places(
    alice: Caller, web: Instance, context: RequestContext
) -> None:
    found = explain(quick(OPS), Question(alice, Action.SSH, web, context))
    assert not found.decision.allowed
    assert held(found.nearest) == [
        ('principal in Group::"corp/ops"', "holds", 3, 3),
        ('resource.hasTag("env")', "holds", 7, 8),
        ('resource.getTag("env") == "dev"', "fails", 8, 8),
        ("(context.mfa || context.bound)", "fails", 8, 43),
        ('context.reason != ""', "fails", 8, 77),
        ('context.ticket == "x" && context.mfa', "holds", 9, 10),
    ]


@pytest.mark.parametrize(
    ("condition", "texts"),
    [
        ("context.mfa || context.bound && context.mfa", ["context.mfa || context.bound && context.mfa"]),
        ("if context.mfa then true else false && true", ["if context.mfa then true else false && true"]),
        ("context.mfa && (context.bound && true)", ["context.mfa", "(context.bound && true)"]),
        ('context.reason == "a && b; }" && true', ['context.reason == "a && b; }"', "true"]),
        ("// && why\n context.mfa // }\n && true", ["context.mfa", "true"]),
        ("{a: 1}.a == 1 && context has login_age", ["{a: 1}.a == 1", "context has login_age"]),
    ],
)
def test_conditions_are_divided_as_cedar_reads_them(condition: str, texts: list[str]) -> None:
    (rule,) = quick(
        f'@id("p") permit(principal, action == Action::"ssh", resource) when {{ {condition} }};'
    ).rules.values()
    assert [clause.text for clause in clauses(rule)] == texts


def test_a_condition_that_fails_to_evaluate_alone_is_an_error(
    alice: Caller, web: Instance, context: RequestContext
) -> None:
    text = """@id("p") permit(principal, action == Action::"ssh", resource)
        when { resource.hasTag("owner") && resource.getTag("owner") == "alice" };"""
    found = explain(quick(text), Question(alice, Action.SSH, web, context))
    assert [holding for _, holding, _, _ in held(found.nearest)] == ["fails", "error"]


def test_the_nearest_permit_is_the_one_that_circumstances_meet(
    alice: Caller, web: Instance, context: RequestContext
) -> None:
    text = """
        @id("elsewhere") permit(principal, action == Action::"ssh", resource in Account::"other");
        @id("who") permit(principal in Group::"corp/root", action == Action::"ssh", resource);
        @id("how") permit(principal, action == Action::"ssh", resource) when { context.mfa && context.reason != "" };
        @id("other") permit(principal, action == Action::"rdp", resource);
        @id("no") forbid(principal, action == Action::"ssh", resource) unless { context.mfa };
    """
    found = explain(quick(text), Question(alice, Action.SSH, web, context))
    assert found.nearest
    assert (found.nearest.rule.id, [each.rule.id for each in found.deciding]) == ("how", ["no"])
    assert [step.obligation for step in found.steps] == ["mfa", "reason"]


def test_what_is_allowed_has_nothing_near(alice: Caller, web: Instance, context: RequestContext) -> None:
    found = explain(quick('@id("p") permit(principal, action, resource);'), Question(alice, Action.SSH, web, context))
    assert (found.decision.allowed, found.nearest, [each.parts for each in found.deciding]) == (True, None, [()])
