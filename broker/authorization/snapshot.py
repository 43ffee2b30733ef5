"""One immutable set of policies that answers questions. Small sets are built per question and kept.

A policy can only hold for a request when the entities that its scope names are the principal and the resource, or
ancestors of them. So policies are indexed by action and by those two, and Cedar sees only the candidates: a decision
costs the same among 10 policies and among 10,000. (A policy that names neither is a candidate for everything.)
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from cedarpy import AuthzResult, Entities, PolicySet, is_authorized
from cedarpy import Decision as CedarDecision

from broker.authorization.entities import Entity, context_document, principal_entity, resource_entity
from broker.authorization.schema import schema
from broker.model import Decision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from broker.authorization.rules import PolicyRule
    from broker.model import Action, Caller, Instance, RequestContext

MAX_SLICES = 4096
MAX_CACHED_POLICIES = 65_536
MAX_RESOURCES = 4096
MAX_PAIRS = 2048
BREATH = 64

_UNASKABLE = (ValueError, TypeError, KeyError)
"""What Cedar and the JSON encoder raise when a question cannot be put."""

Key = TypeVar("Key", str, tuple[str, str])
Row = dict[str, tuple[int, list["PolicyRule"]]]


@dataclass(frozen=True, slots=True)
class Slice:
    """The candidates for one kind of question, parsed."""

    policies: PolicySet
    rules: tuple[PolicyRule, ...]


class PolicySnapshot:
    """A checked policy set. `digest` is what `sha256sum *.cedar | sha256sum` prints in its directory.

    Not for use by several threads at once: the caches are plain dictionaries.
    """

    def __init__(self, rules: Iterable[PolicyRule], files: Mapping[str, str]) -> None:
        self.rules = {rule.id: rule for rule in rules}
        self.files = dict(sorted(files.items()))
        self.digest = _digest(self.files)
        self._index = _index(self.rules.values())
        self._slices: OrderedDict[tuple[int, ...], Slice] = OrderedDict()
        self._cached_policies = 0
        self._about: dict[Action, tuple[PolicyRule, ...]] = {}
        self._resources: OrderedDict[str, Entities] = OrderedDict()
        self._pairs: OrderedDict[tuple[str, str], Entities] = OrderedDict()
        self.max_slices = MAX_SLICES

    def decide(self, caller: Caller, action: Action, resource: Instance | str, context: RequestContext) -> Decision:
        """Answer whether the policies allow this. Whatever goes wrong is a denial with `errors`."""
        return next(self.decide_each(caller, action, (resource,), context))

    def decide_each(
        self, caller: Caller, action: Action, resources: Iterable[Instance | str], context: RequestContext
    ) -> Iterator[Decision]:
        """Answer the same question about several resources; caller and context are described once."""
        try:
            who, circumstances = principal_entity(caller), context_document(caller, context)
        except _UNASKABLE as error:
            yield from (self._failed(error) for _ in resources)
            return
        for resource in resources:
            try:
                yield self._verdict(self.ask_cedar(who, action, resource_entity(resource), circumstances))
            except _UNASKABLE as error:
                yield self._failed(error)

    def candidates(self, caller: Caller, action: Action, resource: Instance | str) -> tuple[PolicyRule, ...]:
        """Answer the policies whose scope admits this question, whatever their conditions say.

        Raises:
            ValueError: the question cannot be put to the policies.
        """
        return self.slice(action, principal_entity(caller).keys, resource_entity(resource).keys).rules

    def slice(self, action: str, who: tuple[str, ...], what: tuple[str, ...]) -> Slice:
        """Answer the candidates for a question, from the cache or built from JSON; no policy text is parsed."""
        rows = self._index.get(action, {})
        found = [
            bucket
            for key in ("", *who)
            if (row := rows.get(key))
            for other in ("", *what)
            if (bucket := row.get(other))
        ]
        key = tuple(sorted(number for number, _ in found))
        if (hit := self._slices.get(key)) is not None:
            self._slices.move_to_end(key)
            return hit
        return self._keep(key, build_slice(tuple(rule for _, rules in found for rule in rules)))

    def rules_about(self, action: Action) -> tuple[PolicyRule, ...]:
        """Answer the policies that speak of an action."""
        if action not in self._about:
            self._about[action] = tuple(rule for rule in self.rules.values() if action.value in rule.scope.actions)
        return self._about[action]

    @property
    def cached_slices(self) -> int:
        """How many slices are kept."""
        return len(self._slices)

    def _keep(self, key: tuple[int, ...], made: Slice) -> Slice:
        self._slices[key] = made
        self._cached_policies += len(made.rules)
        while len(self._slices) > self.max_slices or (
            self._cached_policies > MAX_CACHED_POLICIES and len(self._slices) > 1
        ):
            _, dropped = self._slices.popitem(last=False)
            self._cached_policies -= len(dropped.rules)
        return made

    def ask_cedar(self, who: Entity, action: Action, what: Entity, context: str) -> AuthzResult | None:
        """Answer what Cedar says, diagnostics and metrics included; None when no policy's scope fits.

        Raises:
            ValueError: the question cannot be put. TypeError and KeyError likewise.
        """
        candidates = self.slice(action.value, who.keys, what.keys)
        if not candidates.rules:
            return None
        request = {
            "principal": who.uid,
            "action": {"type": "Action", "id": action.value},
            "resource": what.uid,
            "context": context,
        }
        return is_authorized(request, candidates.policies, self._both(who, what))

    def _verdict(self, result: AuthzResult | None) -> Decision:
        if result is None:
            return Decision(allowed=False, digest=self.digest)
        errors = tuple(result.diagnostics.errors)
        if errors or result.decision is CedarDecision.NoDecision:
            # Cedar skips a policy that fails, so a broken `forbid` would forbid nothing: an answer that came with
            # errors is no answer.
            return Decision(allowed=False, digest=self.digest, errors=errors or ("Cedar did not decide",))
        deciding = tuple(sorted(result.diagnostics.reasons))
        if not result.allowed:
            return Decision(allowed=False, policies=deciding, digest=self.digest)
        rules = [self.rules[name] for name in deciding]
        return Decision(
            allowed=True,
            policies=deciding,
            digest=self.digest,
            max_duration=min((rule.max_duration for rule in rules if rule.max_duration), default=None),
            max_staleness=min((rule.max_staleness for rule in rules if rule.max_staleness), default=None),
        )

    def _failed(self, error: Exception) -> Decision:
        return Decision(allowed=False, digest=self.digest, errors=(f"the question cannot be asked: {error}",))

    def _both(self, who: Entity, what: Entity) -> Entities:
        """Parse a resource once, and each principal beside it once."""
        resource = _kept(
            self._resources, what.document, MAX_RESOURCES, lambda: Entities.from_json_str(what.document, schema())
        )
        return _kept(
            self._pairs, (who.document, what.document), MAX_PAIRS, lambda: resource.with_added_json_str(who.document)
        )


def _kept(cache: OrderedDict[Key, Entities], key: Key, limit: int, parse: Callable[[], Entities]) -> Entities:
    """Answer what is kept under the whole content of its documents, so that it cannot be stale; else parse it."""
    if (hit := cache.get(key)) is None:
        hit = cache[key] = parse()
        if len(cache) > limit:
            cache.popitem(last=False)
    else:
        cache.move_to_end(key)
    return hit


def build_slice(rules: tuple[PolicyRule, ...]) -> Slice:
    """Build the engine's set from the policies' JSON; the `@id`s become the engine's own ids."""
    members = ",".join(f'"{rule.id}":{rule.cedar_json}' for rule in rules)
    return Slice(
        PolicySet.from_json_str(f'{{"templates":{{}},"templateLinks":[],"staticPolicies":{{{members}}}}}'), rules
    )


def _index(rules: Iterable[PolicyRule]) -> dict[str, dict[str, Row]]:
    """Sort policies into numbered buckets by action, principal key and resource key."""
    index: dict[str, dict[str, Row]] = {}
    buckets = 0
    for number, rule in enumerate(rules):
        for action in rule.scope.actions:
            row = index.setdefault(action, {}).setdefault(rule.scope.principal, {})
            if rule.scope.resource not in row:
                row[rule.scope.resource] = (buckets, [])
                buckets += 1
            row[rule.scope.resource][1].append(rule)
        if number % BREATH == 0:
            time.sleep(0)  # built in a thread: let the event loop have the interpreter
    return index


def _digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in files.items()).encode()).hexdigest()
