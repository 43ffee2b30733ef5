"""Reading the log for people: search by keyset, single events, proofs. Off the event loop, and never by the writer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from broker.audit import merkle
from broker.audit.exporting import AT_ONCE, FORMATS, chunk
from broker.audit.leaves import milliseconds, parse
from broker.audit.stores import (
    Filters,
    Found,
    Position,
    Reader,
    ReaderFactory,
    StoredCheckpoint,
    StoredRecord,
    StoreError,
    Tally,
    TooSlow,
)
from broker.errors import AuditUnavailable, InvalidRequest, NotFound, Overloaded

MAX_PAGE = 200
_CURSOR = re.compile(r"([0-9]{1,15})\.([0-9]{1,15})", re.ASCII)

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as it lies in the log: `leaf` is its exact canonical JSON, of which `leaf_hash` is the hash."""

    index: int
    leaf_hash: bytes
    leaf: bytes

    @property
    def event(self) -> dict[str, object]:
        """The leaf, read."""
        return parse(self.leaf)


@dataclass(frozen=True, slots=True)
class Page:
    """Some events, newest first, and where the next page begins; None after the last."""

    items: tuple[Entry, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That the leaf at `index` is in the tree of `size`."""

    index: int
    size: int
    leaf_hash: bytes
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class CompletedReceipt:
    """That the event at `index` has this hash; with the checkpoint over it and the proof, once there is one."""

    index: int
    leaf_hash: bytes
    checkpoint: str | None = None
    proof: InclusionProof | None = None


class Review:
    """Answers questions about the log, one at a time, in a thread of its own."""

    def __init__(self, open_reader: ReaderFactory, *, waiting_limit: int = 32) -> None:
        self._open_reader = open_reader
        self._waiting_limit = waiting_limit
        self._waiting = 0
        self._reader: Reader | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit-reader")

    async def events(self, filters: Filters, *, limit: int = 50, cursor: str = "") -> Page:
        """Answer one page of the events that fit, newest first.

        Raises:
            InvalidRequest: when `limit` is not within 1 to 200, or the cursor is none of ours.
            Overloaded: when the search takes too long, or too many wait.
            AuditUnavailable: when the store cannot be read.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest(detail=f"limit is between 1 and {MAX_PAGE}")
        after = _position(cursor)
        found = await self._ask(lambda reader: reader.search(filters, limit + 1, after))
        return _page(found, limit)

    async def event(self, index: int, *, accounts: frozenset[str] | None = None) -> Entry:
        """Answer one event, if it concerns one of the accounts (None: any).

        Raises:
            NotFound: when there is none, or the reader may not see it.
        """
        return _entry(await self._find(index, accounts))

    async def size(self) -> int:
        """Answer how many events there are."""
        return (await self._ask(lambda reader: reader.head())).size

    async def records(self, first: int, end: int) -> Sequence[StoredRecord]:
        """Answer the events from `first` up to, not including, `end`, in their order: as many as are there."""
        return await self._ask(lambda reader: reader.records(first, end))

    async def tally(self, events: Sequence[str], since: int, until: int) -> Sequence[Tally]:
        """Answer how many events of these names there were in a time (ms since 1970); raises as `events` does."""
        return await self._ask(lambda reader: reader.tally(events, since, until))

    async def bodies(self) -> range:
        """Answer the indices of the events that have their body now."""
        return await self._ask(lambda reader: range(reader.oldest(), reader.head().size))

    async def exported(
        self, name: str, filters: Filters, indices: range, wanted: Callable[[Entry], bool] | None = None
    ) -> AsyncIterator[bytes]:
        """Write the events that fit, and are wanted, out in their order, in the format of this name; part by part."""
        form = FORMATS[name]
        if form.header:
            yield form.header
        for start in range(indices.start, indices.stop, AT_ONCE):
            end = min(start + AT_ONCE, indices.stop)
            found = await self._ask(partial(chunk, filters=filters, first=start, end=end))
            if wanted:
                found = [record for record in found if wanted(Entry(*record))]
            if found:
                yield b"".join(map(form.line, found))

    async def checkpoints(self, after: int, limit: int) -> Sequence[StoredCheckpoint]:
        """Answer up to `limit` checkpoints of more than `after` events, by size."""
        return await self._ask(lambda reader: reader.checkpoints(after, limit))

    async def checkpoint(self) -> str:
        """Answer the newest signed note."""
        stored = await self._ask(lambda reader: reader.newest_checkpoint())
        if stored is None:
            raise NotFound
        return stored.note

    async def inclusion_proof(self, index: int, size: int | None = None) -> InclusionProof:
        """Answer the proof that event `index` is in the log of `size` events (default: of now). It tells only hashes.

        Raises:
            NotFound: when there is no such event.
            InvalidRequest: when the log never had this size, or had it before the event.
        """
        now = (await self._ask(lambda reader: reader.head())).size
        if not 0 <= index < now:
            raise NotFound
        size = now if size is None else size
        if not index < size <= now:
            raise InvalidRequest(detail="size lies between the event and the size of the log")
        [leaf_hash] = await self._ask(lambda reader: reader.hashes(0, index, 1))
        hashes = await self._ask(lambda reader: merkle.inclusion_proof(index, size, _nodes(reader)))
        return InclusionProof(index, size, leaf_hash, tuple(hashes))

    async def receipt(self, index: int) -> CompletedReceipt:
        """Answer what proves that event `index` is in the log. It tells only hashes.

        Raises:
            NotFound: when there is no such event.
        """
        return await self._ask(lambda reader: _receipt(reader, index))

    async def consistency_proof(self, first: int, second: int) -> tuple[bytes, ...]:
        """Answer the proof that the log of `second` events continues that of `first`.

        Raises:
            InvalidRequest: unless 0 <= first <= second <= the size of the log.
        """
        now = (await self._ask(lambda reader: reader.head())).size
        if not 0 <= first <= second <= now:
            raise InvalidRequest(detail="from is not above to, and to not above the size of the log")
        return tuple(await self._ask(lambda reader: merkle.consistency_proof(first, second, _nodes(reader))))

    async def rest(self) -> None:
        """Let go of the connection; the next question opens another."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._forget)

    async def close(self) -> None:
        """Let go of connection and thread."""
        await self.rest()
        self._thread.shutdown()

    async def _find(self, index: int, accounts: frozenset[str] | None) -> Found:
        if not 0 <= index < 1 << 63:
            raise NotFound
        found = await self._ask(lambda reader: reader.find(index))
        if found is None or (accounts is not None and found.account not in accounts):
            raise NotFound
        return found

    async def _ask(self, question: Callable[[Reader], _Answer]) -> _Answer:
        if self._waiting >= self._waiting_limit:
            raise Overloaded(retry_after=1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)
        except TooSlow as problem:
            raise Overloaded(str(problem), detail=str(problem)) from problem
        except StoreError as problem:
            raise AuditUnavailable(str(problem)) from problem
        finally:
            self._waiting -= 1

    # Both run in the reader's thread.

    def _answer(self, question: Callable[[Reader], _Answer]) -> _Answer:
        if self._reader is None:
            self._reader = self._open_reader()
        try:
            return question(self._reader)
        except TooSlow:
            raise
        except StoreError:
            self._forget()  # the next question opens a new connection
            raise

    def _forget(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _receipt(reader: Reader, index: int) -> CompletedReceipt:
    newest = reader.newest_checkpoint()  # read first: the log only grows beyond it
    if not 0 <= index < reader.head().size:
        raise NotFound
    [leaf_hash] = reader.hashes(0, index, 1)
    if newest is None or newest.size <= index:
        return CompletedReceipt(index, leaf_hash)
    hashes = merkle.inclusion_proof(index, newest.size, _nodes(reader))
    return CompletedReceipt(index, leaf_hash, newest.note, InclusionProof(index, newest.size, leaf_hash, tuple(hashes)))


def place_of(entry: Entry) -> str:
    """Answer the cursor of the page that begins after an event."""
    return f"{milliseconds(str(entry.event['time']))}.{entry.index}"


def _nodes(reader: Reader) -> merkle.NodeReader:
    return merkle.nodes_from_rows(reader.hashes)


def _entry(found: Found) -> Entry:
    return Entry(*found.record)


def _page(found: Sequence[Found], limit: int) -> Page:
    shown = found[:limit]
    more = len(found) > limit
    return Page(tuple(map(_entry, shown)), f"{shown[-1].time}.{shown[-1].record.idx}" if more else None)


def _position(cursor: str) -> Position | None:
    if not cursor:
        return None
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise InvalidRequest(detail="the cursor is not one that the broker gave")
    return Position(int(match[1]), int(match[2]))
