"""A question to the policies, however it was described: in words of a command line, or as a case of a truth table.

There is one way to describe a question, the case's; what a command line says is put into that form and read as one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from broker.authorization.cases import Case, Unreadable, read_table
from broker.authorization.obligations import lifting
from broker.model import Instance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from broker.authorization.snapshot import PolicySnapshot
    from broker.model import Action, Caller, Decision, RequestContext, Step

_TEXTS = ("now", "source", "reason", "ticket")


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks for what, of which resource, in which circumstances."""

    caller: Caller
    action: Action
    resource: Instance | str
    context: RequestContext

    @property
    def on(self) -> str:
        """The instance as `account/region/name`, or the account."""
        return self.resource if isinstance(self.resource, str) else str(self.resource.ref)

    def decide(self, snapshot: PolicySnapshot) -> Decision:
        """Put it to the policies."""
        return snapshot.decide(self.caller, self.action, self.resource, self.context)

    def steps(self, snapshot: PolicySnapshot) -> tuple[Step, ...]:
        """Answer what would lift the denial."""
        return lifting(snapshot, self.caller, self.action, self.resource, self.context)


def question_of(case: Case) -> Question:
    """Answer the question that a case asks."""
    return Question(case.caller, case.action, case.resource, case.context)


def question_from(described: Mapping[str, Any], context: Mapping[str, str], zone: str = "UTC") -> Question:
    """Read a question.

    Args:
        described: `as`, `groups`, `email`, `on` and `action`, as a case has them.
        context: members of the context as they are typed: `true`, `60`, `disk full`.
        zone: the time zone of `context.local`.

    Raises:
        Unreadable: something is unknown, missing or of the wrong kind.
    """
    typed = {key: value if key in _TEXTS else _typed(value) for key, value in context.items()}
    case = {**described, "context": typed, "expect": "allow"}
    table = {"time_zone": zone, "cases": [case]}
    return question_of(read_table(json.dumps(table).encode(), "the question")[0])


def case_at(path: Path, line: int) -> Case:
    """Answer the case of a truth table that stands at a line.

    Raises:
        Unreadable: the table cannot be read, or no case stands there.
        OSError: there is no such file.
    """
    before = [case for case in read_table(path.read_bytes(), path.name) if case.line <= line]
    if not before:
        raise Unreadable("no case stands at this line", line)
    return max(before, key=lambda case: case.line)


def instances_of(cases: Iterable[Case]) -> list[Instance]:
    """Answer every instance that cases are about, once."""
    found: list[Instance] = []
    for case in cases:
        if isinstance(case.resource, Instance) and case.resource not in found:
            found.append(case.resource)
    return found


def cases_in(directory: Path) -> list[Case]:
    """Read every truth table of a directory.

    Raises:
        Unreadable: one of them cannot be read.
    """
    paths = sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")])
    return [case for path in paths for case in read_table(path.read_bytes(), path.name)]


def _typed(text: str) -> object:
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if text.isascii() and text.isdecimal() else text
