"""The conditions of a policy one by one: their Cedar JSON, their text, and where it stands (pure).

A `when` that is a chain of `&&` is as many conditions, so that one sees which of them fails; an `unless` is one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from broker.authorization.syntax import Places, tokens

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from broker.authorization.rules import PolicyRule

CedarJson = dict[str, Any]

_LOOSER = {"if", "then", "else", "|"}
"""What binds less than `&&`: where it stands between conjuncts they cannot be told apart by eye."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One condition. `line` and `column` count from 1 in the policy's file; `body` is its expression's Cedar JSON."""

    kind: Literal["when", "unless"]
    text: str
    line: int
    column: int
    body: CedarJson


def clauses(rule: PolicyRule) -> tuple[Clause, ...]:
    """Answer the conditions of a policy in their order."""
    conditions: list[CedarJson] = json.loads(rule.cedar_json).get("conditions", [])
    found: list[Clause] = []
    for condition, inside in zip(conditions, _bodies(rule.text), strict=True):
        for body, start, end in _parts(condition, inside):
            line, column = _place(rule, start)
            found.append(
                Clause(
                    kind=condition["kind"],
                    text=" ".join(rule.text[start:end].split()),
                    line=line,
                    column=column,
                    body=body,
                )
            )
    return tuple(found)


def head_place(rule: PolicyRule, side: str) -> tuple[int, int]:
    """Answer line and column where the head of a policy speaks of `principal` or `resource`."""
    # An annotation holds a string at most, so the first such word is the head's.
    return _place(rule, next((token.start() for token in tokens(rule.text) if token[0] == side), 0))


def _place(rule: PolicyRule, offset: int) -> tuple[int, int]:
    line, column = Places(rule.text)(offset)
    return rule.line + line - 1, column if line > 1 else rule.column + column - 1


def _bodies(text: str) -> Iterator[list[re.Match[str]]]:
    """Answer the tokens between the braces of each `when` and `unless`."""
    depth = 0
    inside: list[re.Match[str]] | None = None
    for token in tokens(text):
        opens, closes = token.lastgroup == "open", token.lastgroup == "close"
        depth -= closes
        if closes and depth == 0 and inside is not None:
            yield inside
            inside = None
        elif inside is not None:
            inside.append(token)
        elif opens and depth == 0 and token[0] == "{":
            inside = []
        depth += opens


def _parts(condition: CedarJson, inside: list[re.Match[str]]) -> Iterator[tuple[CedarJson, int, int]]:
    """Answer the conjuncts of a clause, each with where its text begins and ends."""
    texts = [inside] if condition["kind"] == "unless" else _conjuncts(inside)
    body: CedarJson = condition["body"]
    bodies: list[CedarJson] = []
    for _ in texts[1:]:  # `a && b && c` is `(a && b) && c`
        if "&&" not in body:
            texts, body, bodies = [inside], condition["body"], []
            break
        bodies.append(body["&&"]["right"])
        body = body["&&"]["left"]
    for each, words in zip([body, *reversed(bodies)], texts, strict=True):
        yield each, words[0].start(), words[-1].end()


def _conjuncts(inside: list[re.Match[str]]) -> list[list[re.Match[str]]]:
    """Cut tokens at every `&&` that is in no brackets; leave them whole where something binds less than it."""
    parts: list[list[re.Match[str]]] = [[]]
    depth = 0
    for token in inside:
        depth += (token.lastgroup == "open") - (token.lastgroup == "close")
        if depth == 0 and token[0] in _LOOSER:
            return [inside]
        if depth == 0 and token[0] == "&":
            if parts[-1]:
                parts.append([])
        else:
            parts[-1].append(token)
    return parts if all(parts) else [inside]


def variables(body: CedarJson) -> frozenset[str]:
    """Answer which of principal, action, resource and context an expression speaks of."""
    found: set[str] = set()
    stack: list[Any] = [body]
    while stack:
        match stack.pop():
            case {"Var": str(name)}:
                found.add(name)
            case dict() as node:
                stack.extend(node.values())
            case list() as items:
                stack.extend(items)
    return frozenset(found)
