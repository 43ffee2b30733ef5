"""Who could approve: found by asking the policies for everybody whom they name as an approver (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from broker.authorization.entities import resource_entity
from broker.model import Action, Caller, Instance, RequestContext

if TYPE_CHECKING:
    from broker.authorization.snapshot import PolicySnapshot

MAX_APPROVERS = 8
MAX_HEADS = 64
"""So many principals are tried."""


def approvers(snapshot: PolicySnapshot, caller: Caller, instance: Instance, context: RequestContext) -> tuple[str, ...]:
    """Answer who may approve for an instance, as `group issuer/name` or `issuer/subject`: some that policies name.

    They are imagined in the place of `caller`, at their best: with a second factor, just logged in, and with a reason.
    Names of groups and people are told only to who may list the instance, as is the group that one lacks: an approval
    shows that the instance is there, and not who looks after it.
    """
    if not snapshot.decide(caller, Action.LIST, instance, context).allowed:
        return ()
    strong = replace(caller, email=None, mfa=True, authenticated_at=context.now, bound=True)
    at_best = replace(context, reason="given", ticket="", approvals=0, break_glass=False)
    return tuple(islice(_allowed(snapshot, strong, instance, at_best), MAX_APPROVERS))


def _allowed(snapshot: PolicySnapshot, strong: Caller, instance: Instance, context: RequestContext) -> Iterator[str]:
    for head in _heads(snapshot, instance)[:MAX_HEADS]:
        kind, _, name = head.partition("::")
        issuer, _, local = name.partition("/")
        who, group = replace(strong, issuer=issuer, kind="workload" if kind == "Workload" else "user"), kind == "Group"
        who = replace(who, subject="" if group else local, groups=(local,) if group else ())
        if snapshot.decide(who, Action.APPROVE, instance, context).allowed:
            yield f"group {name}" if group else name


def _heads(snapshot: PolicySnapshot, instance: Instance) -> list[str]:
    """Answer the principals, as `Type::id`, that the heads of permits to approve name, for this instance or more."""
    places = {"", *resource_entity(instance).keys}
    permits = (rule.scope for rule in snapshot.rules_about(Action.APPROVE) if rule.effect == "permit")
    return sorted({scope.principal for scope in permits if "::" in scope.principal and scope.resource in places})
