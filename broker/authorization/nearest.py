"""The nearest policy that would allow: found by asking again as a member of one group more. No second rule language."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from broker.authorization.obligations import lifted, lifting
from broker.model import Nearest

if TYPE_CHECKING:
    from broker.authorization.snapshot import PolicySnapshot
    from broker.model import Action, Caller, Instance, RequestContext

MAX_GROUPS: Final = 64
"""How many groups are tried; a set that names more of them is too large to be guessed at."""


def nearest(
    snapshot: PolicySnapshot, caller: Caller, action: Action, resource: Instance, context: RequestContext
) -> Nearest | None:
    """Answer the smallest change of the caller's groups that would allow this; None when no single group does.

    Args:
        snapshot: by which it was denied, whatever the context.
        caller: who was denied.
        action: what for.
        resource: the instance.
        context: the circumstances; of two groups, the one that needs less beside is nearer.
    """
    found: list[tuple[int, str, tuple[str, ...]]] = []
    for group in _groups(snapshot, caller):
        member = _as_member(caller, group)
        decision = snapshot.decide(member, action, resource, context)
        if decision.allowed:
            return Nearest(policies=decision.policies, group=group)
        count, policies = (0, ()) if decision.errors else lifted(snapshot, member, action, resource, context)
        if count:
            found.append((count, group, policies))
    if not found:
        return None
    _, group, policies = min(found)
    # What the steps are exactly costs more than how many there are, and is asked for one group only.
    steps = lifting(snapshot, _as_member(caller, group), action, resource, context)
    return Nearest(policies=policies, group=group, steps=steps)


def _as_member(caller: Caller, group: str) -> Caller:
    return replace(caller, groups=(*caller.groups, group))


def _groups(snapshot: PolicySnapshot, caller: Caller) -> Iterator[str]:
    """Answer the groups of the caller's issuer that permits name, and that the caller is not in."""
    prefix = f"Group::{caller.issuer}/"
    named = {name for rule in snapshot.rules.values() if rule.effect == "permit" for name in rule.named}
    groups = sorted(name.removeprefix(prefix) for name in named if name.startswith(prefix))
    yield from [group for group in groups if group not in caller.groups][:MAX_GROUPS]
