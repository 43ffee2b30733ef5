"""What an anchor is: a place elsewhere that is given every checkpoint, so that the log cannot go back behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from broker.audit.anchors.continuity import History
from broker.audit.stores import StoredCheckpoint
from broker.errors import BrokerError


class AnchorFailed(Exception):
    """An anchor did not take or tell; the message is for operators, without secrets and paths."""


class Anchor(Protocol):
    """One place. Any exception of it but `Contradicted` means: not now."""

    async def compare(self, history: History) -> None:
        """Raise `Contradicted` when the log is not a continuation of what is held here."""
        ...

    async def take(self, checkpoint: StoredCheckpoint, after: int, history: History) -> None:
        """Hold a checkpoint; `after` is the size of the newest that was taken before, 0 for none."""
        ...


class Keeper(Protocol):
    """A place that keeps notes without understanding them."""

    async def newest(self) -> str | None:
        """Answer the note of the greatest size; None when there is none, or nothing can be read back."""
        ...

    async def add(self, size: int, note: str, after: int) -> None:
        """Keep a note; when it is there already, that is as good."""
        ...


class Kept:
    """The anchor that a keeper makes."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def compare(self, history: History) -> None:
        """Hold the log against the newest note that is kept."""
        if (note := await self._keeper.newest()) is not None:
            await history.judge(note)

    async def take(self, checkpoint: StoredCheckpoint, after: int, history: History) -> None:
        """Keep the note."""
        del history
        await self._keeper.add(checkpoint.size, checkpoint.note, after)


@dataclass(frozen=True, slots=True)
class Place:
    """An anchor by its name; `required`: credentials shall not go out for long while it takes nothing."""

    name: str
    anchor: Anchor
    required: bool = False


def sentence(problem: Exception) -> str:
    """Say what hindered an anchor, without paths, secrets or anybody's own words."""
    match problem:
        case AnchorFailed():
            return str(problem)
        case BrokerError():
            return problem.cause or problem.sentence
        case TimeoutError():
            return "no answer in time"
        case OSError():
            return problem.strerror or type(problem).__name__
    return type(problem).__name__
