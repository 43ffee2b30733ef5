"""What was called: a bounded list for tests and for people."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_MOST_CALLS: Final = 10_000


@dataclass(slots=True, kw_only=True)
class Call:
    """One call. `answered` is `ok`, the type of the error, or the kind of the fault; "" until it is answered."""

    operation: str
    instance: str | None
    protocol: str | None
    at: datetime
    region: str = ""
    caller: str = ""
    source_identity: str | None = None
    answered: str = ""

    def described(self) -> dict[str, object]:
        """Answer it as JSON values; `at` is RFC 3339."""
        return {
            "operation": self.operation,
            "instance": self.instance,
            "protocol": self.protocol,
            "at": self.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "answered": self.answered,
            "region": self.region,
            "caller": self.caller,
            "source_identity": self.source_identity,
        }


def new_call_list() -> deque[Call]:
    """Answer an empty list that forgets its oldest calls."""
    return deque(maxlen=_MOST_CALLS)
