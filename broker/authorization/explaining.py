"""Why a question is answered as it is: the deciding policies, and the nearest permit with what it lacks.

Nothing is evaluated here: each part of a policy is made a policy of its own, and Cedar is asked which of them hold.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cedarpy import PolicySet, is_authorized

from broker.authorization.clauses import Clause, clauses, head_place, variables
from broker.authorization.entities import context_document, principal_entity, resource_entity
from broker.authorization.schema import schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.authorization.questions import Question
    from broker.authorization.rules import PolicyRule
    from broker.authorization.snapshot import PolicySnapshot
    from broker.model import Decision, Step

CedarJson = dict[str, Any]
Holding = Literal["holds", "fails", "error"]

_ANY: CedarJson = {"op": "All"}
_SIDES: tuple[Literal["principal", "resource"], ...] = ("principal", "resource")
_CONTEXT, _GROUP, _OTHER = 1, 3, 5
"""How far away a permit is for lack of a condition on the circumstances, of one group, of anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The head of a policy as to one side, or one of its conditions, and whether it holds."""

    kind: Literal["principal", "resource", "when", "unless"]
    text: str
    line: int
    column: int
    holding: Holding


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A policy, and which parts of it hold for a question."""

    rule: PolicyRule
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision and why. `nearest` is there for a denial that some permit of the action could have prevented."""

    decision: Decision
    deciding: tuple[Anatomy, ...]
    steps: tuple[Step, ...] = ()
    nearest: Anatomy | None = None


def explain(snapshot: PolicySnapshot, question: Question) -> Explanation:
    """Explain the answer to a question.

    Raises:
        ValueError: the question cannot be put to Cedar at all.
    """
    decision = question.decide(snapshot)
    deciding = tuple(dissect(snapshot.rules[name], question) for name in decision.policies)
    if decision.allowed:
        return Explanation(decision=decision, deciding=deciding)
    steps = () if decision.errors else question.steps(snapshot)
    permits = [rule for rule in snapshot.rules_about(question.action) if rule.effect == "permit"]
    nearest = min((dissect(rule, question) for rule in permits), key=_distance, default=None)
    return Explanation(decision=decision, deciding=deciding, steps=steps, nearest=nearest)


def dissect(rule: PolicyRule, question: Question) -> Anatomy:
    """Tell which parts of a policy hold for a question.

    Raises:
        ValueError: the question cannot be put to Cedar.
    """
    document = json.loads(rule.cedar_json)
    conditions = clauses(rule)
    asked = {f"side-{side}": _permit(**{side: document[side]}) for side in _SIDES}
    asked |= {
        f"clause-{number}": _permit(conditions=[{"kind": clause.kind, "body": clause.body}])
        for number, clause in enumerate(conditions)
    }
    held = which_hold(asked, question)
    heads = tuple(_head(rule, side, document[side], held[f"side-{side}"]) for side in _SIDES if document[side] != _ANY)
    tails = tuple(_tail(clause, held[f"clause-{number}"]) for number, clause in enumerate(conditions))
    return Anatomy(rule, heads + tails)


def which_hold(policies: Mapping[str, CedarJson], question: Question) -> dict[str, Holding]:
    """Ask Cedar which of some permits hold; each is judged alone.

    Raises:
        ValueError: the question cannot be put.
    """
    text = json.dumps({"templates": {}, "templateLinks": [], "staticPolicies": policies})
    who, what = principal_entity(question.caller), resource_entity(question.resource)
    entities = json.loads(who.document) + json.loads(what.document)
    result = is_authorized(
        {
            "principal": who.uid,
            "action": {"type": "Action", "id": question.action.value},
            "resource": what.uid,
            "context": context_document(question.caller, question.context),
        },
        PolicySet.from_json_str(text),
        entities,
        schema(),
    )
    holding = {*result.diagnostics.reasons}
    failing = {name for name in policies if any(f"`{name}`" in error for error in result.diagnostics.errors)}
    if result.diagnostics.errors and not failing:
        raise ValueError("; ".join(result.diagnostics.errors))
    return {name: "holds" if name in holding else "error" if name in failing else "fails" for name in policies}


def _permit(**parts: object) -> CedarJson:
    bare = {"effect": "permit", "principal": _ANY, "action": _ANY, "resource": _ANY, "conditions": []}
    return bare | parts


def _head(rule: PolicyRule, side: Literal["principal", "resource"], scope: CedarJson, holding: Holding) -> Part:
    entity = scope.get("entity") or scope.get("in", {}).get("entity")
    named = f'{entity["type"]}::"{entity["id"]}"' if entity else ""
    match scope["op"]:
        case "is":
            text = f"{side} is {scope['entity_type']}" + (f" in {named}" if named else "")
        case op:
            text = f"{side} {op} {named}"
    line, column = head_place(rule, side)
    return Part(kind=side, text=text, line=line, column=column, holding=holding)


def _tail(clause: Clause, holding: Holding) -> Part:
    return Part(kind=clause.kind, text=clause.text, line=clause.line, column=clause.column, holding=holding)


def _distance(anatomy: Anatomy) -> int:
    """Answer how much is missing: circumstances can be changed, a group can be joined, what one is stays."""
    conditions = clauses(anatomy.rule)
    heads = anatomy.parts[: len(anatomy.parts) - len(conditions)]
    far = sum(
        _GROUP if part.kind == "principal" and 'Group::"' in part.text else _OTHER
        for part in heads
        if part.holding != "holds"
    )
    tails = zip(anatomy.parts[len(heads) :], conditions, strict=True)
    return far + sum(
        _CONTEXT if variables(clause.body) <= {"context"} else _OTHER
        for part, clause in tails
        if part.holding != "holds"
    )
