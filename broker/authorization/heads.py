"""What a policy's Cedar JSON says about whom and what it concerns (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker.authorization.schema import ACTIONS, CONNECT

if TYPE_CHECKING:
    from collections.abc import Iterator

CedarJson = dict[str, Any]

_PRINCIPALS = ("User", "Workload", "Group")


def scope_key(constraint: CedarJson) -> str:
    """Answer what a principal or resource constraint asks for: `Type::id`, `Type`, or "" for anything."""
    entity = constraint.get("entity") or constraint.get("in", {}).get("entity")
    if entity:
        return f"{entity['type']}::{entity['id']}"
    return str(constraint.get("entity_type", ""))


def scope_actions(constraint: CedarJson) -> tuple[str, ...]:
    """Answer the actions that can be asked for and that an action constraint covers."""
    if constraint["op"] == "All":
        return ACTIONS
    entities = constraint.get("entities") or [constraint["entity"]]
    named = [entity["id"] for entity in entities]
    # `connect` is no action one can ask for: only `in` reaches its members.
    members = [CONNECT if name == "connect" and constraint["op"] == "in" else (name,) for name in named]
    return tuple(dict.fromkeys(action for group in members for action in group))


def named_principals(policy: CedarJson) -> tuple[str, ...]:
    """Answer the users, workloads and groups that a policy names anywhere, as `Type::id`, sorted."""
    found = {
        f"{node['type']}::{node['id']}" for node in _nodes(policy) if node.get("type") in _PRINCIPALS and "id" in node
    }
    return tuple(sorted(found))


def samples(policy: CedarJson) -> tuple[tuple[str, str, str], ...]:
    """Answer texts that fit the policy's `like` patterns for reason and ticket, as (member, text, pattern)."""
    return tuple(dict.fromkeys(sample for node in _nodes(policy) for sample in _fitting(node)))


def _fitting(node: CedarJson) -> Iterator[tuple[str, str, str]]:
    match node:
        case {"like": {"left": {".": {"left": {"Var": "context"}, "attr": "reason" | "ticket" as member}}} as test}:
            parts = [None if part == "Wildcard" else part["Literal"] for part in test["pattern"]]
            fits = "".join("1" if part is None else part for part in parts)
            yield member, fits, "".join("*" if part is None else part.replace("*", "\\*") for part in parts)


def _nodes(value: object) -> Iterator[CedarJson]:
    """Walk every object in a JSON value, with a stack of our own: depth costs no recursion."""
    stack = [value]
    while stack:
        match stack.pop():
            case dict() as node:
                yield node
                stack.extend(node.values())
            case list() as items:
                stack.extend(items)
