"""Change of the key that signs the log: an event that both keys sign, and which key counts for which checkpoint. Pure.

With the event at index i, checkpoints of up to i events are signed by the old key, longer ones by the new key. So
whoever pinned any one of a log's keys can follow to the others: forward by the old key's signature, backward because
the new key signed the event and every checkpoint over it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Self

from broker.audit.checkpoints import Checkpoint, CheckpointError, Signer, VerifierKey, unverified

KEY_ROTATED: Final = "audit.key_rotated"


class BadRotation(CheckpointError):
    """The event does not prove that the key was changed by those who held both."""


class Rotation(NamedTuple):
    """At which event which key followed which; both have signed it."""

    at: int
    old: VerifierKey
    new: VerifierKey

    @classmethod
    def read(cls, index: int, members: Mapping[str, object]) -> Self:
        """Read the event at `index` and check both signatures.

        Raises:
            BadRotation: when it is malformed or one of them does not hold.
        """
        details = members.get("details")
        if members.get("event") != KEY_ROTATED or not isinstance(details, Mapping):
            raise BadRotation("not a change of key")
        try:
            old, new = (VerifierKey.parse(str(details.get(name))) for name in ("old_key", "new_key"))
            statement = _statement(old, new)
            old.verify(_signature(details, "old_signature"), statement)
            new.verify(_signature(details, "new_signature"), statement)
        except CheckpointError as problem:
            raise BadRotation(f"the change of key is not signed by both keys: {problem}") from problem
        if old.name != new.name or old == new:
            raise BadRotation("the change of key is between keys of different logs, or of none")
        return cls(index, old, new)


def rotation(old: Signer, new: Signer) -> dict[str, str]:
    """Answer the details of the event by which `new` takes over from `old`."""
    statement = _statement(old.verifier, new.verifier)
    return {
        "old_key": str(old.verifier),
        "new_key": str(new.verifier),
        "old_signature": base64.b64encode(old.sign_statement(statement)).decode(),
        "new_signature": base64.b64encode(new.sign_statement(statement)).decode(),
    }


def _statement(old: VerifierKey, new: VerifierKey) -> bytes:
    """Answer the text that both keys sign; no checkpoint looks like it, since its second line is no number."""
    return f"{old.name}\nkey-rotation\n{old}\n{new}\n".encode()


def _signature(details: Mapping[str, object], name: str) -> bytes:
    try:
        return base64.b64decode(str(details.get(name)).encode(), validate=True)
    except binascii.Error:
        return b""


class KeyChain:
    """All keys of one log, of which one is pinned, and for which checkpoints each counts."""

    def __init__(self, pinned: VerifierKey, rotations: Sequence[Rotation] = ()) -> None:
        self.pinned = pinned
        self.rotations = tuple(sorted(rotations))
        for earlier, later in zip(self.rotations, self.rotations[1:], strict=False):
            if earlier.new != later.old:
                raise BadRotation(f"the key that event {later.at} replaces was not in force")
        self.keys = (*(each.old for each in self.rotations[:1]), *(each.new for each in self.rotations))
        """In the order of their use; empty when none was ever changed."""
        if self.keys and pinned not in self.keys:
            raise BadRotation("the pinned key is none of those that the log names")

    @property
    def name(self) -> str:
        """The log's origin."""
        return self.pinned.name

    def key_for(self, size: int) -> VerifierKey:
        """Answer which key signs a checkpoint over so many events."""
        key = self.keys[0] if self.keys else self.pinned
        for each in self.rotations:
            if size > each.at:
                key = each.new
        return key

    def ranges(self) -> list[tuple[int, VerifierKey]]:
        """Answer every key with the size from which on it signs the checkpoints."""
        first = self.keys[0] if self.keys else self.pinned
        return [(0, first), *((each.at + 1, each.new) for each in self.rotations)]

    def open(self, note: str) -> Checkpoint:
        """Answer the checkpoint in a note that the key of its size has signed; raises as `VerifierKey.open` does."""
        return self.key_for(unverified(note).size).open(note)
