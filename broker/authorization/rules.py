"""One policy as the broker keeps it, and one problem with a policy. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import timedelta

Effect = Literal["permit", "forbid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a policy's head asks for. `principal` and `resource` are keys as in `entities`; "" is anything."""

    principal: str
    actions: tuple[str, ...]
    resource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRule:
    """A checked policy. `cedar_json` is its JSON form, from which slices are built without parsing any text.

    `named` are the principals and groups that it names anywhere, as `Type::id`; `samples` are texts that fit its
    `like` patterns, as (`reason` or `ticket`, text, pattern).
    """

    id: str
    file: str
    line: int
    column: int
    text: str
    effect: Effect
    scope: Scope
    max_duration: timedelta | None
    max_staleness: timedelta | None
    named: tuple[str, ...]
    samples: tuple[tuple[str, str, str], ...]
    cedar_json: str


@dataclass(frozen=True, slots=True, order=True)
class PolicyProblem:
    """Why a policy set is refused. `line` and `column` count from 1; 0 means the file as a whole."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}"
