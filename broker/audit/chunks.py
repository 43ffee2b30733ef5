"""Looking at many records of a database at once, in processes beside each other: what a replay need not go through.

A chunk is the records under one node of the tree. What is said of one is that a replay would find nothing in it, and
how the replay goes on behind it. Where anything is unusual nothing is said, and the replay looks for itself.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from hashlib import sha256
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple

from broker.audit.evidence import CannotVerify, Damaged, Database, open_database
from broker.audit.leaves import parse, search_columns
from broker.audit.merkle import TILE_LEVELS, CompactRange
from broker.audit.reading import PRUNED
from broker.audit.runs import SERVICE_EVENTS, Requests

_LEVEL: Final = 12
_LARGE: Final = 64 * 2**20
_AHEAD: Final = 64
_FOLLOWED: Final = SERVICE_EVENTS | {PRUNED}


class Chunk(NamedTuple):
    """Records that are in order, from `first` up to `end`; `root` is the node over them, of that level of the tree.

    `prefixes` are the roots of the first of them up to each size at which there is a checkpoint.
    """

    first: int
    level: int
    root: bytes
    prefixes: Mapping[int, bytes]
    requests: Requests

    @property
    def end(self) -> int:
        """Index of the record after the last one."""
        return self.first + (1 << self.level)


def look(path: Path, first: int, level: int) -> Chunk | None:
    """Answer the chunk that begins at `first`, if a replay has nothing to find and nothing to follow in it."""
    try:
        with open_database(path) as database:
            return _look(database, first, level)
    except (CannotVerify, Damaged, LookupError, TypeError, ValueError):
        return None


def _look(database: Database, first: int, level: int) -> Chunk | None:
    end, read = first + (1 << level), members_of()
    hashes, requests = [], Requests(set())
    for at, row in enumerate(database.records(first, end), first):
        leaf = row[2]
        hashed = sha256(b"\x00" + leaf).digest()
        members = read(leaf)
        index = members["index"]
        if (
            row[:2] != (index, hashed)
            or index != at
            or type(index) is not int
            or row[3:] != search_columns(members)
            or members["event"] in _FOLLOWED
            or "clock" in members
        ):
            return None
        requests.take(row[4], at, members)
        hashes.append(hashed)
    if first + len(hashes) != end:
        return None
    levels = [hashes]
    while len(levels) <= level:
        below = levels[-1]
        levels.append([sha256(b"\x01" + a + b).digest() for a, b in zip(below[::2], below[1::2], strict=True)])
    for kept in range(TILE_LEVELS, level + 1, TILE_LEVELS):
        if database.nodes(kept, first >> kept, end >> kept) != levels[kept]:
            return None
    sizes = database.sizes(first, end)
    prefixes = {size: CompactRange.load(size - first, lambda at, index: levels[at][index]).root() for size in sizes}
    return Chunk(first, level, levels[level][0], prefixes, requests)


def members_of() -> Callable[[bytes], Mapping[str, object]]:
    """Answer what reads a leaf as `parse` does, and faster where the package's JSON library is there."""
    try:
        from orjson import dumps, loads  # noqa: PLC0415 -- the verifier can do without
    except ImportError:
        return parse

    def read(leaf: bytes) -> Mapping[str, object]:
        try:
            members = loads(leaf)
            if isinstance(members, dict) and dumps(members) == leaf:  # so no member was there twice
                return members
        except (TypeError, ValueError):
            return parse(leaf)
        return parse(leaf)

    return read


def chunks(workers: Executor, path: Path, bodies: range, level: int) -> Iterator[Chunk | int]:
    """Answer what is known of each whole chunk among the records that have bodies, in order; else where it ends."""
    step = 1 << level
    starts = range(-(-bodies.start // step) * step, bodies.stop - step + 1, step)
    if starts and starts.start:
        yield starts.start
    coming = (workers.submit(look, path, first, level) for first in starts)
    with suppress(BrokenExecutor):
        ahead = deque(islice(coming, _AHEAD))
        for first in starts:
            known = ahead.popleft().result()
            ahead.extend(islice(coming, 1))
            yield known or first + step


@contextmanager
def workers() -> Generator[Executor]:
    """Give processes to look with, as many as there are processors; where there can be none, a thread."""
    pool: Executor = ThreadPoolExecutor(1)
    with suppress(OSError, ImportError, NotImplementedError, BrokenExecutor):
        processes = ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=_attend)
        processes.submit(os.getpid).result()
        pool = processes
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _attend() -> None:
    """Leave interrupts to the parent, and end when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


class Chunking(NamedTuple):
    """From how many bytes on a database is looked at in chunks, of which level, and who looks."""

    least: int = _LARGE
    level: int = _LEVEL
    workers: Callable[[], AbstractContextManager[Executor]] = workers

    def serves(self, path: Path) -> bool:
        """Tell whether a database is so large that processes are worth their start."""
        try:
            return path.stat().st_size >= self.least
        except OSError:
            return False


CHUNKING: Final = Chunking()
