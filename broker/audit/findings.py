"""What the offline verifier answers: findings, and the report over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from broker.audit.checkpoints import VerifierKey

CLEAN, TAMPERED, UNVERIFIABLE = 0, 1, 2
"""Exit codes."""


class KeyRange(NamedTuple):
    """A key, and the size from which on it signs the checkpoints."""

    since: int
    key: VerifierKey


class Held(NamedTuple):
    """How much of what was kept elsewhere the log was held against."""

    checkpoints: int = 0
    receipts: int = 0


_NOTHING = Held()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: its class, the first index that it concerns, a sentence, and whether the record holds.

    `recoverable` means that the record's bytes are those that were signed; only something derived is wrong.
    """

    kind: str
    index: int
    message: str
    recoverable: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. `size` records were read; the first `sealed` of them are under a checkpoint that holds."""

    origin: str
    size: int
    sealed: int
    root: bytes
    findings: tuple[Finding, ...]
    broke_off: bool = False
    """Reading ended before the end: what comes after these records could not be placed."""
    bodiless: int = 0
    """So many records were there by their hashes alone: their bodies were pruned, and no archive gave them back."""
    keys: tuple[KeyRange, ...] = ()
    held: Held = _NOTHING
    set_back: tuple[int, ...] = ()
    """The first events that noticed that the clock was set back: times before and after them overlap."""

    @property
    def unsealed(self) -> int:
        """Length of the tail that no checkpoint covers yet."""
        return max(0, self.size - self.sealed)

    def exit_code(self, *, require_sealed: bool = False) -> int:
        """Answer 0 for a clean log, 1 for one that is not; a tail fails only when it must be sealed."""
        return TAMPERED if self.findings or (require_sealed and self.unsealed) else CLEAN
