"""The door of this room: holds the policies in force, answers for them, and takes in new ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC
from time import monotonic
from typing import TYPE_CHECKING

from broker.authorization.loading import PoliciesRefused, load_snapshot
from broker.authorization.nearest import nearest
from broker.authorization.obligations import liftable, lifting
from broker.errors import PoliciesUnavailable
from broker.model import Health, Measure, Obligation, PolicySource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from broker.authorization.snapshot import PolicySnapshot
    from broker.model import Action, Caller, Decision, Instance, Nearest, RequestContext

LIST_CHUNK = 32
"""How many decisions of a list are made before the event loop has its turn: about 3 ms."""

Stamp = frozenset[tuple[str, int, int, int]]


class Policies:
    """The policies of one directory. Used on the event loop; checking and indexing happen elsewhere."""

    def __init__(
        self, directory: Path, strong_logins: Mapping[str, Sequence[str]] | None = None, zone: tzinfo = UTC
    ) -> None:
        """Keep the policies of `directory`.

        Args:
            directory: Where the `*.cedar` files are.
            strong_logins: The `acr` values that count as multi-factor, by the issuer's name.
            zone: In which policies are told the local time.
        """
        self._directory = directory
        self._strong_logins = strong_logins or {}
        self._zone = zone
        self._snapshot: PolicySnapshot | None = None
        self._loaded_at = monotonic()
        self._trouble = ""
        self.problems: tuple[str, ...] = ()
        """What is wrong with the directory as it was last read; empty while it is in force."""
        self._seen: Stamp | None = None
        self._turn = asyncio.Lock()

    @property
    def snapshot(self) -> PolicySnapshot:
        """The set in force.

        Raises:
            PoliciesUnavailable: nothing was loaded.
        """
        if self._snapshot is None:
            raise PoliciesUnavailable("no policies are loaded")
        return self._snapshot

    @property
    def digest(self) -> str:
        """Of the set in force; raises as `snapshot` does."""
        return self.snapshot.digest

    def load(self) -> PolicySnapshot:
        """Load the directory at start; blocks. A broken set is refused.

        Raises:
            PoliciesRefused: every problem by file, line and column.
        """
        self._seen = _stamp(self._directory)
        self._snapshot = load_snapshot(self._directory)
        return self._snapshot

    async def reload(self) -> PolicySnapshot | None:
        """Take in the directory as it is now, all or nothing.

        Returns:
            The new set when it differs from the old one, else None: unchanged, or broken, as `health` then tells.
        """
        async with self._turn:
            self._seen = await asyncio.to_thread(_stamp, self._directory)
            try:
                fresh = await asyncio.to_thread(load_snapshot, self._directory, self._snapshot)
            except PoliciesRefused as refused:
                # What readiness and log show tells nobody where things lie on this machine.
                here = f"{self._directory.absolute().parent}/"
                self.problems = tuple(str(problem).replace(here, "") for problem in refused.problems)
                self._trouble = "; ".join(self.problems)
                return None
            self._trouble, self.problems = "", ()
            if self._snapshot is not None and fresh.digest == self._snapshot.digest:
                return None
            self._snapshot = fresh
            return fresh

    async def watch(self, looked: Callable[[PolicySnapshot | None], Awaitable[None]], interval: float = 1.0) -> None:
        """Reload when files have changed and then lain still for an interval, until cancelled.

        A file that is still being written may hold half of its policies, and not the half that forbids.

        Args:
            looked: Hears what `reload` answered.
            interval: Seconds between two looks.
        """
        while True:
            await asyncio.sleep(interval)
            if not await self.changed():
                continue
            before = await asyncio.to_thread(_stamp, self._directory)
            await asyncio.sleep(interval)
            if before == await asyncio.to_thread(_stamp, self._directory):
                await looked(await self.reload())

    async def changed(self) -> bool:
        """Tell whether names, sizes or times of the files differ from what was last read."""
        return await asyncio.to_thread(_stamp, self._directory) != self._seen

    def decide(
        self,
        caller: Caller,
        action: Action,
        resource: Instance | str,
        context: RequestContext,
        *,
        obliging: bool = False,
    ) -> Decision:
        """Decide; any error denies and shows in `errors`.

        Args:
            caller: who asks.
            action: what for.
            resource: the instance, or for `readAudit` the name of the account.
            context: the circumstances of the request.
            obliging: on a denial, also find the `obligations` that would lift it (some 15 more questions at most).

        Raises:
            PoliciesUnavailable: nothing was loaded.
        """
        snapshot, context = self.snapshot, self._here(context)
        decision = snapshot.decide(caller, action, resource, context)
        if decision.allowed or decision.errors or not obliging:
            return decision
        strong = tuple(self._strong_logins.get(caller.issuer, ()))
        steps = lifting(snapshot, caller, action, resource, context)
        named = (replace(step, acr_values=strong) if step.obligation is Obligation.MFA else step for step in steps)
        return replace(decision, steps=tuple(named))

    def within_reach(self, caller: Caller, action: Action, resource: Instance | str, context: RequestContext) -> bool:
        """Tell whether this is allowed, or would be after some step that the caller can take.

        Raises:
            PoliciesUnavailable: nothing was loaded.
        """
        snapshot, context = self.snapshot, self._here(context)
        decision = snapshot.decide(caller, action, resource, context)
        if decision.allowed or decision.errors:
            return decision.allowed
        return liftable(snapshot, caller, action, resource, context)

    def sources(self, policies: Iterable[str]) -> tuple[PolicySource, ...]:
        """Answer where policies of the set in force stand."""
        rules = self.snapshot.rules
        found = (rules[name] for name in policies if name in rules)
        return tuple(PolicySource(id=rule.id, file=rule.file, line=rule.line, text=rule.text) for rule in found)

    async def decide_each(
        self, caller: Caller, action: Action, instances: Iterable[Instance], context: RequestContext
    ) -> list[Decision]:
        """Decide the same for many instances, in their order, by one policy set; the event loop keeps turning.

        Raises:
            PoliciesUnavailable: nothing was loaded.
        """
        decisions: list[Decision] = []
        for decision in self.snapshot.decide_each(caller, action, instances, self._here(context)):
            decisions.append(decision)
            if len(decisions) % LIST_CHUNK == 0:
                await asyncio.sleep(0)
        return decisions

    def nearest(self, caller: Caller, action: Action, resource: Instance, context: RequestContext) -> Nearest | None:
        """Answer which group more would allow what was denied; None when none does.

        Raises:
            PoliciesUnavailable: nothing was loaded.
        """
        return nearest(self.snapshot, caller, action, resource, self._here(context))

    def _here(self, context: RequestContext) -> RequestContext:
        return context if self._zone is UTC else replace(context, zone=self._zone)

    def measures(self) -> Iterator[Measure]:
        """Answer which policies are in force, how many, and since when."""
        if self._snapshot is not None:
            yield Measure("policies", len(self._snapshot.rules))
            yield Measure("policies_age_seconds", monotonic() - self._loaded_at)
            yield Measure("policies_in_force", 1, (self._snapshot.digest,))

    def health(self) -> Health:
        """Tell whether the policies in force are those in the directory; if not, what is wrong with them."""
        if self._snapshot is None or self._trouble:
            return Health("policies", ready=False, detail=self._trouble or "no policies are loaded")
        return Health("policies", ready=True, detail=f"{len(self._snapshot.rules)} policies")


def _stamp(directory: Path) -> Stamp:
    """Answer what changes when a file does: name, size, time and inode."""
    try:
        found = [(path.name, path.stat()) for path in directory.glob("*.cedar")]
    except OSError:  # a file went away between the two looks
        return frozenset()
    return frozenset((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in found)
