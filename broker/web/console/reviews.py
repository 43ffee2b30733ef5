"""What reviewers have signed off: ranges of the log, each an event of its own (`audit.reviewed`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from broker.audit.review import Entry

KIND: Final = "audit"
REVIEWED: Final = "audit.reviewed"


class StoredThread(Protocol):
    """What the log knows of one sign-off."""

    @property
    def facts(self) -> str:
        """What its event said, as a line of JSON."""
        ...


@dataclass(frozen=True, slots=True)
class SignOff:
    """Somebody has looked at the events from `first` up to, not including, `end`, in these accounts (none: in all).

    Of a selection, `only` are those that were picked.
    """

    index: int
    first: int
    end: int
    accounts: frozenset[str]
    only: frozenset[int]
    by: str
    at: datetime
    note: str

    def covers(self, index: int, account: str) -> bool:
        """Tell whether this event is among them."""
        picked = index in self.only if self.only else self.first <= index < self.end
        return picked and (not self.accounts or account in self.accounts)

    @property
    def is_whole(self) -> bool:
        """Tell whether it covers everything between its ends."""
        return not (self.accounts or self.only)


class SignOffs:
    """All sign-offs."""

    def __init__(self, threads: Iterable[StoredThread]) -> None:
        self._all = [_read(json.loads(line)) for thread in threads for line in thread.facts.splitlines()]

    def of(self, entry: Entry) -> Sequence[SignOff]:
        """Answer who has signed an event off, the oldest first."""
        account = _account(entry.event)
        return [each for each in self._all if each.covers(entry.index, account)]

    def is_reviewed(self, entry: Entry) -> bool:
        """Tell whether anybody has."""
        return bool(self.of(entry))

    def is_open(self, entry: Entry) -> bool:
        """Tell whether nobody has."""
        return not self.of(entry)

    def beginning(self, index: int) -> int:
        """Answer the first event of the run of whole ranges around one: all from there to it are reviewed."""
        first = index
        while found := [each.first for each in self._all if each.is_whole and each.first < first <= each.end]:
            first = min(found)
        return first


def _read(fact: Mapping[str, Any]) -> SignOff:
    details = fact["details"]
    return SignOff(
        index=fact["index"],
        first=details["first"],
        end=details["end"],
        accounts=frozenset(details.get("accounts", ())),
        only=frozenset(map(int, details.get("only", ()))),
        by=f"{fact['actor']['issuer']}/{fact['actor']['subject']}",
        at=datetime.fromisoformat(fact["time"]),
        note=fact.get("reason", ""),
    )


def _account(event: Mapping[str, Any]) -> str:
    place = event.get("instance") or {}
    return str(place.get("account", ""))
