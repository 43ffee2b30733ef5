"""What truth tables exercise of a set: where each policy decides, and where its head fits but it does not hold."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.authorization.explaining import CedarJson, which_hold
from broker.authorization.questions import question_of

if TYPE_CHECKING:
    from broker.authorization.cases import Case
    from broker.authorization.rules import PolicyRule
    from broker.authorization.snapshot import PolicySnapshot
    from broker.model import Decision


@dataclass(slots=True)
class Exercise:
    """The cases, as `file:line`, that exercise one policy."""

    rule: PolicyRule
    conditional: bool
    decides: list[str] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)
    """Its head fits and its conditions do not hold."""

    @property
    def lacks(self) -> str:
        """What no case shows; "" when nothing is missing."""
        if not self.decides:
            return "no case is decided by it"
        if self.conditional and not self.misses:
            return "no case fits its head without meeting its conditions"
        return ""


class Coverage:
    """Counts, case by case."""

    def __init__(self, snapshot: PolicySnapshot) -> None:
        self._snapshot = snapshot
        self._documents = {name: json.loads(rule.cedar_json) for name, rule in snapshot.rules.items()}
        self.policies = {
            name: Exercise(rule, bool(self._documents[name].get("conditions"))) for name, rule in snapshot.rules.items()
        }

    def see(self, case: Case, decision: Decision) -> None:
        """Take in one case and how it was decided."""
        place = f"{case.file}:{case.line}"
        for name in decision.policies:
            self.policies[name].decides.append(place)
        try:
            missed = self._missed(case)
        except (ValueError, TypeError, KeyError):  # a question that cannot be put exercises nothing
            return
        for name in missed:
            self.policies[name].misses.append(place)

    def _missed(self, case: Case) -> list[str]:
        near = [
            rule.id
            for rule in self._snapshot.candidates(case.caller, case.action, case.resource)
            if self.policies[rule.id].conditional
        ]
        asked: dict[str, CedarJson] = {}
        for name in near:
            whole = {**self._documents[name], "effect": "permit"}
            asked |= {f"whole-{name}": whole, f"head-{name}": {**whole, "conditions": []}}
        held = which_hold(asked, question_of(case)) if asked else {}
        return [name for name in near if held[f"head-{name}"] == "holds" and held[f"whole-{name}"] == "fails"]
