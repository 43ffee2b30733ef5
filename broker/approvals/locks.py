"""Locks: what keeps a person, a program, an instance or an account out, whatever the policies say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from broker.approvals.facts import Fact, Person, details, moment, moment_or_none, person
from broker.model import Caller, InstanceRef

CREATED: Final = "lock.created"
REMOVED: Final = "lock.removed"
EXPIRED: Final = "lock.expired"


class LockKind(StrEnum):
    """What a lock holds."""

    USER = "user"
    WORKLOAD = "workload"
    INSTANCE = "instance"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """One lock. `target` is `issuer/subject`, `account/region/name` or an account; `until` is None for ever."""

    id: str
    index: int
    last_index: int
    kind: LockKind
    target: str
    message: str
    created_by: Person
    created_at: datetime
    until: datetime | None
    lifted: bool = False

    def holds(self, now: datetime) -> bool:
        """Tell whether it is in force."""
        return not self.lifted and (self.until is None or now < self.until)

    def is_on_caller(self, caller: Caller) -> bool:
        """Tell whether it keeps this caller out of everything."""
        return self.kind.value == caller.kind and self.target == str(caller)

    def is_on_instance(self, instance: InstanceRef) -> bool:
        """Tell whether it keeps everybody out of this instance."""
        if self.kind is LockKind.ACCOUNT:
            return self.target == instance.account
        return self.kind is LockKind.INSTANCE and self.target == str(instance)


def lock_of(thread: str, facts: Sequence[Fact]) -> Lock:
    """Fold the facts of a lock, the oldest first."""
    first = facts[0]
    said = details(first)
    return Lock(
        id=thread,
        index=first["index"],
        last_index=facts[-1]["index"],
        kind=LockKind(said["kind"]),
        target=said["target"],
        message=first.get("reason", ""),
        created_by=person(first),
        created_at=moment(first["time"]),
        until=moment_or_none(said.get("until")),
        lifted=len(facts) > 1,
    )
