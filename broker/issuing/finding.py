"""Finding the one instance that somebody means, among those that they may know of."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from broker.errors import AmbiguousInstance, Denied
from broker.model import Action, Instance

if TYPE_CHECKING:
    from broker.issuing.desk import Asking
    from broker.issuing.rooms import Inventory, Policies


async def find(inventory: Inventory, policies: Policies, asking: Asking, now: datetime) -> Instance:
    """Answer the one instance that is meant.

    Raises:
        Denied: there is none that the caller may know of.
        AmbiguousInstance: there are several; names them.
    """
    found = await inventory.find(asking.request.instance)
    if len(found) > 1:
        seen = await policies.decide_each(asking.caller, Action.LIST, found, asking.context(now))
        found = tuple(instance for instance, decision in zip(found, seen, strict=True) if decision.allowed)
    if len(found) > 1:
        raise AmbiguousInstance(choices=tuple(str(instance.ref) for instance in found))
    if not found:
        raise Denied("no such instance")
    return found[0]
