"""What a process must know of the others that write the same log: who died over a request, and who has sealed.

`runs` does not apply here. What one process leaves unsealed lies between the events of others, and a request without
an answer may be in the hands of a process that is well. So a request counts as dead by its age alone, and whoever
closes it first, under the lock of the head, has closed it: the process that comes back to it finds it closed, and its
credential does not leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from broker.audit.events import Document, decode, outcome_unknown
from broker.audit.leaves import milliseconds
from broker.audit.projections import ISSUED
from broker.audit.stores import Store, StoreError

ANSWER_WITHIN: Final = timedelta(minutes=5)
"""No request takes so long; its process died, stands still, or is cut off."""


def overdue(store: Store, now: str) -> list[Document]:
    """Answer what closes the requests that nobody has answered in time."""
    limit = milliseconds(now) - int(ANSWER_WITHIN.total_seconds() * 1000)
    closing: list[Document] = []
    for index in store.open_requests():
        for record in store.records(index, index + 1):
            try:
                members = decode(record.leaf)
                recent = milliseconds(str(members["time"])) > limit
            except (ValueError, KeyError) as problem:
                raise StoreError(f"event {index}, said to be a request, cannot be read: {problem}") from problem
            if recent:  # and so are those after it
                return closing
            closing.append(outcome_unknown(members))
    return closing


def needs_open(members: Mapping[str, object]) -> bool:
    """Tell whether an event may be written only while its request is open."""
    return members["event"] == ISSUED or members.get("error") == "outcome_unknown"
