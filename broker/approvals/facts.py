"""Reading what the events of a thread said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from broker.model import Caller, InstanceRef, Protocol

Fact = Mapping[str, Any]
"""One event, as far as a thread keeps it: `index`, `time`, `event`, and what else it said."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who did something. The address is there only if the issuer had verified it."""

    issuer: str
    subject: str
    email: str = ""

    def __str__(self) -> str:
        return f"{self.issuer}/{self.subject}"

    def is_same(self, other: Person) -> bool:
        """Tell whether both are one human being: by issuer and subject, or by the verified address of two accounts."""
        if (self.issuer, self.subject) == (other.issuer, other.subject):
            return True
        return bool(self.email) and self.email.casefold() == other.email.casefold()

    @classmethod
    def of(cls, caller: Caller) -> Person:
        """Answer who a caller is."""
        return cls(caller.issuer, caller.subject, caller.email or "")


def read(lines: str) -> Sequence[Fact]:
    """Read the facts of a thread, the oldest first."""
    return [json.loads(line) for line in lines.splitlines()]


def person(fact: Fact) -> Person:
    """Answer who an event was of."""
    actor = fact.get("actor") or {}
    return Person(actor.get("issuer", ""), actor.get("subject", ""), details(fact).get("email", ""))


def details(fact: Fact) -> Mapping[str, Any]:
    """Answer the details of an event."""
    found: Mapping[str, Any] = fact.get("details") or {}
    return found


def instance(fact: Fact) -> InstanceRef:
    """Answer which instance an event concerns."""
    place = fact["instance"]
    return InstanceRef(place["account"], place["region"], place["name"])


def protocol(fact: Fact) -> Protocol:
    """Answer how somebody wants to get in."""
    return Protocol(fact["protocol"])


def moment(text: str) -> datetime:
    """Read a time of the log."""
    return datetime.fromisoformat(text)


def moment_or_none(text: str | None) -> datetime | None:
    """Read a time that may be absent."""
    return moment(text) if text else None
