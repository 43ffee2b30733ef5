"""What a start looks for in a log that one process writes: requests that a crash left open, and odd ends."""

from __future__ import annotations

from collections.abc import Sequence

from broker.audit.events import Document, decode, outcome_unknown
from broker.audit.merkle import CompactRange, nodes_from_rows
from broker.audit.runs import STARTED, Runs
from broker.audit.sealing import Seal
from broker.audit.stores import Store, StoreError

_RECENT = 16_384
"""Of a long run, so many sealed events are looked through for requests without an answer."""


def look_through(store: Store, seal: Seal, size: int) -> Sequence[Document]:
    """Answer what closes the requests without an answer; the store must know the same ones as the events do.

    A request can be open only if the last run made it. The events of that run are hashed again up to the
    newest checkpoint, so they are the ones that it sealed; then the unsealed ones up to the head, at `size`.

    Raises:
        StoreError: when the log is not as a broker leaves it.
    """
    sealed, stored = seal.reread, store.open_requests()
    first = _first(store, seal.size, stored)
    seal.reread = CompactRange.load(first, nodes_from_rows(store.hashes))
    runs = Runs(first)
    _follow(seal, runs, sealed.size)
    if seal.reread.root() != sealed.root():
        raise StoreError("the events are not those that the newest checkpoint sealed: verify the audit log")
    runs.seal()
    _follow(seal, runs, size)
    if runs.flaw:
        raise StoreError(
            f"no broker leaves its audit log as this one is: event {runs.flaw.idx}: {runs.flaw.message}; verify it"
        )
    opened = runs.open_requests()
    if list(opened) != list(stored):
        raise StoreError("the open requests are not those of the audit log's events: verify it before you go on")
    return [outcome_unknown(members) for members in opened.values()]


def _first(store: Store, sealed: int, opened: Sequence[int]) -> int:
    """Answer where the last run began, or less far back in a long one: but before every request said to be open."""
    recent = min(sealed - _RECENT, *opened, sealed)
    started = store.newest(STARTED, sealed)
    if started is None:
        return max(0, recent)
    if [decode(record.leaf).get("event") for record in store.records(started, started + 1)] != [STARTED]:
        raise StoreError(f"searches take event {started} for a start: verify the audit log before you go on")
    return max(started, recent)


def _follow(seal: Seal, runs: Runs, end: int) -> None:
    while seal.reread.size < end:
        for record in seal.read_back(end):
            runs.take(decode(record.leaf))
