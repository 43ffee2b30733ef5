"""RSA keys in custody: one encrypted file each, opened once at start and whenever the directory changes.

Whoever runs the service calls `refresh` every second, so that what another process changes counts within seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final, Self

from broker.errors import KeyNotHeld, KeysUnavailable
from broker.model import Clock, utc_now
from broker.unsealing import envelopes, files
from broker.unsealing.envelopes import Envelope
from broker.unsealing.keypairs import HeldKey, KeyPairId
from broker.unsealing.masterkeys import MasterKey

_SUFFIX: Final = ".json"
_MAX_FILE_BYTES: Final = 64 * 1024
_RETRY_AFTER: Final = timedelta(seconds=10)
"""How long a file that cannot be read is left alone: the fault may be KMS's, and asking costs time."""
_PATIENCE: Final = 3.0
"""So many seconds the master key may take for all that changed; a key that was removed must not wait behind KMS."""
_MISS_COOL_DOWN: Final = timedelta(milliseconds=250)
"""So seldom a key that is not held makes the directory be read: whoever asks for such keys cannot hammer the disk."""

Stamps = Mapping[Path, tuple[int, int, int]]
"""Which files there are, and when each was last changed: inode, nanoseconds, size."""


class Custody:
    """The keys of one directory. What is in memory follows the directory; what cannot be read changes nothing."""

    def __init__(self, directory: Path, master_key: MasterKey, clock: Clock) -> None:
        """Start empty; `open` is how a usable one is made."""
        self._directory = directory
        self._master_key = master_key
        self._clock = clock
        self._held: dict[Path, HeldKey] = {}
        self._stamps: Stamps = {}
        self._problems: dict[Path, str] = {}
        self._retry_at = self._look_again_at = clock()
        self._refreshing = asyncio.Lock()

    @classmethod
    async def open(cls, directory: Path, master_key: MasterKey, clock: Clock = utc_now) -> Self:
        """Open every key of a directory; no directory means no keys.

        Raises:
            KeysUnavailable: When a file is damaged, or sealed under another master key, or open to others.
        """
        custody = cls(directory, master_key, clock)
        await custody.refresh(patience=None)
        if custody.problems:
            raise KeysUnavailable("; ".join(custody.problems))
        return custody

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence per file that cannot be read, and one when the directory cannot."""
        return tuple(self._problems.values())

    @property
    def complete(self) -> bool:
        """Whether every key can be used: a file that cannot be read, but whose key is held, takes nothing away."""
        return self._problems.keys() <= self._held.keys()

    def list(self) -> tuple[HeldKey, ...]:
        """Answer all keys, sorted by where they belong."""
        return tuple(sorted(self._held.values(), key=lambda held: held.id))

    def get(self, key_pair: KeyPairId) -> HeldKey | None:
        """Answer the key of a key pair, or None when it is not held."""
        return self._held.get(self._path(key_pair))

    async def find(self, key_pair: KeyPairId) -> HeldKey | None:
        """Answer as `get` does, but look once more before saying that a key is not held: it may have come just now."""
        if (held := self.get(key_pair)) or self._clock() < self._look_again_at:
            return held
        await self.refresh()
        self._look_again_at = self._clock() + _MISS_COOL_DOWN
        return self.get(key_pair)

    async def refresh(self, patience: float | None = _PATIENCE) -> None:
        """Take over what another process changed: about 0.1 ms when nothing did.

        A key whose file is gone is dropped. A file that cannot be read leaves what was held, and shows in `problems`;
        so does one for which the master key takes longer than `patience` (seconds).
        """
        async with self._refreshing:
            try:
                stamps = await asyncio.to_thread(_scan, self._directory)
            except KeysUnavailable as problem:
                self._problems[self._directory] = problem.cause
                return
            self._problems.pop(self._directory, None)
            for path in (self._held.keys() | self._problems.keys()) - stamps.keys():
                self._held.pop(path, None)
                self._problems.pop(path, None)
            changed = {path for path, stamp in stamps.items() if self._stamps.get(path) != stamp}
            await self._take_all(sorted(changed | self._due()), patience)
            self._stamps = stamps

    async def _take_all(self, paths: Sequence[Path], patience: float | None) -> None:
        """Open files side by side: one that the master key keeps waiting for does not hold up the others."""
        left = set(paths)

        async def take(path: Path) -> None:
            await self._take(path)
            left.discard(path)

        try:
            async with asyncio.timeout(patience):
                await asyncio.gather(*map(take, paths))
        except TimeoutError:
            for path in sorted(left):
                self._failed(path, f"{path.name}: the master key does not answer")

    def _due(self) -> set[Path]:
        """Answer the files that failed and are to be tried again."""
        return set(self._problems) if self._clock() >= self._retry_at else set()

    async def _take(self, path: Path) -> None:
        try:
            self._held[path] = await _open(path, self._master_key)
        except KeysUnavailable as problem:
            self._failed(path, problem.cause)
        else:
            self._problems.pop(path, None)

    def _failed(self, path: Path, cause: str) -> None:
        self._problems[path] = cause
        self._retry_at = self._clock() + _RETRY_AFTER

    async def add(self, held: HeldKey) -> None:
        """Keep a key that `keypairs.examine` let pass; it replaces an older one of the same key pair.

        Raises:
            KeysUnavailable: When it cannot be wrapped or written.
        """
        envelope = await _seal(held, self._master_key)
        await asyncio.to_thread(_write, self._path(held.id), envelope)
        await self.refresh()

    async def remove(self, key_pair: KeyPairId) -> None:
        """Forget a key, in memory and on the disk.

        Raises:
            KeyNotHeld: When there is none of this name.
            KeysUnavailable: When the file cannot be removed.
        """
        try:
            await asyncio.to_thread(files.remove, self._path(key_pair))
        except FileNotFoundError:
            raise KeyNotHeld(str(key_pair), detail=f"No key of {key_pair} is in custody.") from None
        except OSError as error:
            raise KeysUnavailable(f"{self._directory}: {error.strerror}") from None
        await self.refresh()

    def _path(self, key_pair: KeyPairId) -> Path:
        return self._directory / _file_name(key_pair)


async def rewrap(directory: Path, old: MasterKey, new: MasterKey) -> tuple[KeyPairId, ...]:
    """Seal every key anew under another master key; answer which ones were.

    All keys are opened before the first file is written. After a crash half-way the same call completes the work: a
    file that is under the new master key already is left as it is.

    Raises:
        KeysUnavailable: When a key opens under neither, or a file cannot be written.
    """
    stamps = await asyncio.to_thread(_scan, directory)
    found = {path: await asyncio.to_thread(_read, path) for path in stamps}
    under_new = {path for path, envelope in found.items() if envelope.header["master_key"] == new.id}
    opened = {path: await _open(path, new if path in under_new else old) for path in found}
    todo = {path: held for path, held in opened.items() if path not in under_new}
    for path, held in todo.items():
        await asyncio.to_thread(_write, path, await _seal(held, new))
    return tuple(sorted(held.id for held in todo.values()))


def _file_name(key_pair: KeyPairId) -> str:
    """Name a file after its key pair by a hash: names may have 255 characters, and case may not matter to a disk."""
    return hashlib.sha256(str(key_pair).encode()).hexdigest()[:40] + _SUFFIX


async def _seal(held: HeldKey, master_key: MasterKey) -> Envelope:
    data_key = os.urandom(envelopes.DATA_KEY_BYTES)
    wrapped = await master_key.wrap(data_key, envelopes.context_of(held.id, held.key_id))
    return envelopes.seal(held, data_key, wrapped, master_key.id)


async def _open(path: Path, master_key: MasterKey) -> HeldKey:
    envelope = await asyncio.to_thread(_read, path)
    if envelope.header["master_key"] != master_key.id:
        raise KeysUnavailable(
            f"the key of {envelope.id} was sealed under the master key {envelope.header['master_key']}, "
            f"and this one is {master_key.id}"
        )
    data_key = await master_key.unwrap(envelope.wrapped_key, envelope.context)
    return await asyncio.to_thread(envelope.open, data_key)


def _scan(directory: Path) -> Stamps:
    try:
        files.require_private(directory)
        with os.scandir(directory) as entries:
            found = [entry for entry in entries if entry.name.endswith(_SUFFIX)]
            stats = {Path(entry.path): entry.stat(follow_symlinks=False) for entry in found}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise KeysUnavailable(f"{directory}: {error.strerror}") from None
    return {path: (stat.st_ino, stat.st_ctime_ns, stat.st_size) for path, stat in sorted(stats.items())}


def _read(path: Path) -> Envelope:
    try:
        files.require_private(path)
        with path.open("rb") as file:
            envelope = Envelope.decode(file.read(_MAX_FILE_BYTES))
    except OSError as error:
        raise KeysUnavailable(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise KeysUnavailable(f"{path} is no key of this custody, or damaged") from None
    if path.name != _file_name(envelope.id):
        raise KeysUnavailable(f"{path} holds the key of {envelope.id}, whose place is elsewhere")
    return envelope


def _write(path: Path, envelope: Envelope) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.require_private(path.parent)
        files.replace(path, envelope.encode())
    except OSError as error:
        raise KeysUnavailable(f"{path.parent}: {error.strerror}") from None
