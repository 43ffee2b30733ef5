"""Who may answer somebody: approve their request, or review how they broke the glass. Nobody does so for themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.approvals.facts import Person
from broker.errors import BrokerError, Denied, NotFound
from broker.issuing.refusals import refusal
from broker.issuing.rooms import Inventory, Policies
from broker.model import Action, Caller, Clock, Decision, Instance, InstanceRef, RequestContext, Source

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """Somebody does something to what somebody else began, and says why."""

    caller: Caller
    source: Source
    request_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether somebody may answer; `error` says why not."""

    instance: Instance | None
    decision: Decision | None
    error: BrokerError | None


class Answering:
    """Asks the policies of now for the action `approve`."""

    def __init__(self, inventory: Inventory, policies: Policies, clock: Clock) -> None:
        self._inventory = inventory
        self._policies = policies
        self._clock = clock

    async def standing(self, verb: Verb, of: Person, ref: InstanceRef, gone: Instance | None = None) -> Standing:
        """Answer whether somebody may answer for `of` about an instance; who may never do so learns of nothing.

        Args:
            verb: what they want to do.
            of: for whom.
            ref: about which instance.
            gone: what is decided on if there is no such instance any more; None: then nobody may.
        """
        instance = await self.instance(ref) or gone
        if instance is None:
            return Standing(None, None, NotFound())
        decision = self._decide(verb.caller, instance, verb.source, verb.reason)
        if of.is_same(Person.of(verb.caller)):
            own = Denied("one's own", detail="Nobody decides on their own request or their own use of break-glass.")
            return Standing(instance, decision, own)
        if decision.allowed:
            return Standing(instance, decision, None)
        return Standing(instance, decision, refusal(decision) if decision.obligations else NotFound())

    async def may(
        self, caller: Caller, source: Source, refs: Sequence[InstanceRef], gone: Sequence[Instance] = ()
    ) -> Sequence[bool]:
        """Tell for which instances somebody may answer, at most after a second factor or a reason.

        Of those that are not there any more, the ones in `gone` are decided on.
        """
        remembered = {instance.ref: instance for instance in gone}
        found: dict[InstanceRef, bool] = {}
        for ref in refs:
            if ref not in found:
                instance = await self.instance(ref) or remembered.get(ref)
                found[ref] = instance is not None and self._may(caller, instance, source)
        return [found[ref] for ref in refs]

    async def instance(self, ref: InstanceRef) -> Instance | None:
        """Answer an instance; None when there is none any more."""
        found = await self._inventory.find(str(ref))
        return found[0] if found else None

    def _may(self, caller: Caller, instance: Instance, source: Source) -> bool:
        context = RequestContext(now=self._clock(), source_ip=source.ip)
        return self._policies.within_reach(caller, Action.APPROVE, instance, context)

    def _decide(self, caller: Caller, instance: Instance, source: Source, reason: str) -> Decision:
        context = RequestContext(now=self._clock(), source_ip=source.ip, reason=reason)
        return self._policies.decide(caller, Action.APPROVE, instance, context, obliging=True)
