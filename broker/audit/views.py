"""What the service asks the views of the log: to which host keys an instance is held, and what is out now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple, TypeVar

from broker.audit.leaves import parse
from broker.audit.stores import Reader, ReaderFactory, StoredHostKeys, StoredLease, StoredThread, StoreError
from broker.errors import AuditUnavailable
from broker.model import InstanceRef

_Answer = TypeVar("_Answer")


class Out(NamedTuple):
    """A lease that has not ended, and the event that issued it: empty when its body is in an archive."""

    lease: StoredLease
    event: dict[str, object]


class Views:
    """Reads the views, in a thread of its own: a search that somebody waits for never holds an issue up.

    Args:
        open_reader: Opens the log for reading.
        nearby: The log is a file here. Then a pin is read on the event loop: a look into a page that is in memory
            takes less than the way to a thread and back. A writer never blocks it.
    """

    def __init__(self, open_reader: ReaderFactory, *, nearby: bool = False) -> None:
        self._far = _Opened(open_reader)
        self._near = _Opened(open_reader) if nearby else None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit-views")

    async def pinned(self, instance: InstanceRef) -> frozenset[str] | None:
        """Answer the host keys that an instance is held to; None when it is held to none yet.

        Raises:
            AuditUnavailable: when the store cannot be read.
        """
        kept = await self.host_keys(instance)
        return None if kept is None else frozenset(kept.pinned)

    async def host_keys(self, instance: InstanceRef) -> StoredHostKeys | None:
        """Answer what is known of the host keys of an instance."""
        name = str(instance)
        if self._near:
            return self._near.ask(lambda reader: reader.host_keys(name))
        return await self._ask(lambda reader: reader.host_keys(name))

    async def all_host_keys(self) -> Sequence[StoredHostKeys]:
        """Answer the same of all instances, by name."""
        return await self._ask(lambda reader: reader.all_host_keys())

    async def leases(
        self,
        now: int,
        *,
        accounts: frozenset[str],
        own: str,
        actor: str | None = None,
        after: tuple[int, str] = (0, ""),
    ) -> Sequence[StoredLease]:
        """Answer the leases of some accounts, and those of `own`, that end after `now`, the first to end first.

        Args:
            now: The time, in milliseconds since 1970.
            accounts: Those of which the reader may see all leases.
            own: Who reads, as `issuer/subject`.
            actor: Only leases of this one.
            after: Only what comes after this end and lease id.
        """

        def question(reader: Reader) -> Sequence[StoredLease]:
            seen = reader.leases(now, accounts=accounts, actor=actor, instance=None) if accounts else ()
            mine = reader.leases(now, accounts=None, actor=own, instance=None) if actor in {None, own} else ()
            found = {lease.lease_id: lease for lease in (*seen, *mine)}
            return sorted((lease for lease in found.values() if _place(lease) > after), key=_place)

        return await self._ask(question)

    async def thread(self, thread: str) -> StoredThread | None:
        """Answer one thread of events."""
        return await self._ask(lambda reader: reader.thread(thread))

    async def threads(self, kind: str, *, event: str | None = None, actor: str | None = None) -> Sequence[StoredThread]:
        """Answer threads by what began them, by their newest event, and by who began them; the oldest first."""
        return await self._ask(lambda reader: reader.threads(kind, event=event, actor=actor))

    async def followers(self) -> Mapping[str, int]:
        """Answer how far each follower of the log has come: the index of what it is told next."""
        return await self._ask(lambda reader: reader.followers())

    async def asked_since(self, actor: str, event: str, since: int, after: int) -> Sequence[tuple[int, int, str, str]]:
        """Answer what a caller asked for since a time (ms since 1970) and after an index.

        Each as its index, time, instance and request id.
        """
        if self._near:
            return self._near.ask(lambda reader: reader.asked_since(actor, event, since, after))
        return await self._ask(lambda reader: reader.asked_since(actor, event, since, after))

    async def issued(self, leases: Sequence[StoredLease]) -> Sequence[Out]:
        """Answer leases with the events that issued them."""
        return await self._ask(lambda reader: [Out(lease, _event(reader, lease.idx)) for lease in leases])

    async def rest(self) -> None:
        """Let go of the connections; the next question opens others."""
        if self._near:
            self._near.close()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._far.close)

    async def close(self) -> None:
        """Let go of connections and thread."""
        await self.rest()
        self._thread.shutdown()

    async def _ask(self, question: Callable[[Reader], _Answer]) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._far.ask, question)


class _Opened:
    """A reader that is opened when it is first asked, and again after an error. For one thread."""

    def __init__(self, open_reader: ReaderFactory) -> None:
        self._open_reader = open_reader
        self._reader: Reader | None = None

    def ask(self, question: Callable[[Reader], _Answer]) -> _Answer:
        try:
            if self._reader is None:
                self._reader = self._open_reader()
            return question(self._reader)
        except StoreError as problem:
            self.close()
            raise AuditUnavailable(str(problem)) from problem

    def close(self) -> None:
        if self._reader is not None:
            with closing(self._reader):
                self._reader = None


def _place(lease: StoredLease) -> tuple[int, str]:
    return lease.expires_at, lease.lease_id


def _event(reader: Reader, index: int) -> dict[str, object]:
    found = reader.find(index)
    return parse(found.record.leaf) if found else {}
