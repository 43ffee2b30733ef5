"""Keeping the index of words up with the log, in a thread of its own and beside everything else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from broker.audit.stores import StoreError
from broker.audit.stores.sqlite_texts import AT_ONCE, TextIndex

_PAUSE: Final = 2.0
_LONGEST_PAUSE: Final = 300.0


class Indexer:
    """Takes in what is new, until cancelled. Without it, searches of words look through the events themselves."""

    def __init__(self, database: Path, report: Callable[[str], object], pause: float = _PAUSE) -> None:
        self._database = database
        self._report = report
        self._pause = pause
        self._index: TextIndex | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit-texts")

    async def run(self) -> None:
        """Follow the log."""
        loop, pause = asyncio.get_running_loop(), self._pause
        try:
            while True:
                try:
                    taken = await loop.run_in_executor(self._thread, self._update)
                    pause = self._pause
                except (StoreError, sqlite3.Error, OSError) as problem:
                    taken, pause = 0, min(pause * 2, _LONGEST_PAUSE)
                    self._report(f"{type(problem).__name__}: {problem}")
                    await loop.run_in_executor(self._thread, self._forget)
                if taken < AT_ONCE:
                    await asyncio.sleep(pause)
        finally:
            await asyncio.shield(loop.run_in_executor(self._thread, self._forget))
            self._thread.shutdown(wait=False)

    # Both run in the thread.

    def _update(self) -> int:
        if self._index is None:
            self._index = TextIndex(self._database)
        return self._index.update()

    def _forget(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None
