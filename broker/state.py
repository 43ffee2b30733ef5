"""Creating the state: audit log, its signing key, and the master key of the key custody. Nothing else creates them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from broker import wiring
from broker.audit import log
from broker.audit.keyfiles import create_signing_key, public_path
from broker.audit.stores import StoreError, opening
from broker.errors import AuditUnavailable, KeysUnavailable
from broker.settings import Settings
from broker.unsealing.files import require_private
from broker.unsealing.masterkeys import create_master_key_file


def create(settings: Settings) -> Iterator[str]:
    """Create what is missing, and say what was done, one sentence each. Never overwrites anything.

    Raises:
        AuditUnavailable: of log and signing key only one is there, so the other was lost; or they cannot be made.
        KeysUnavailable: there are keys, but their master key is gone; or it cannot be made; or others may touch the
            directory of the keys.
    """
    with suppress(FileNotFoundError):
        require_private(settings.keys.directory)
    yield from _audit(settings)
    yield from _custody(settings)


def _audit(settings: Settings) -> Iterator[str]:
    database, signing_key = opening.name_of(settings.audit.database), wiring.signing_key(settings)
    exists = _exists(settings.audit.database)
    if exists and signing_key.exists():
        return
    if exists or signing_key.exists():
        there, lost = (database, signing_key) if exists else (signing_key, database)
        raise AuditUnavailable(
            f"{there} is there, but {lost} is not: restore it from your backup; a new one would hide the loss"
        )
    if file := wiring.database_file(settings):
        _private_folder(file.parent)
    _private_folder(signing_key.parent)
    verifier = create_signing_key(signing_key, settings.audit.origin)
    log.create(wiring.store(settings), wiring.signer(settings))
    yield f"created the audit log {database}"
    yield f"created its signing key; auditors pin the public one, {public_path(signing_key)}: {verifier}"


def _exists(database: str) -> bool:
    try:
        return opening.exists(database)
    except StoreError as problem:
        raise AuditUnavailable(str(problem)) from problem


def _custody(settings: Settings) -> Iterator[str]:
    _private_folder(settings.keys.directory)
    kind, _, value = settings.keys.master_key.partition(":")
    path = Path(value)
    if kind != "file" or path.exists():
        return
    if any(settings.keys.directory.iterdir()):
        raise KeysUnavailable(f"there are keys in {settings.keys.directory}, but their master key {path} is gone")
    _private_folder(path.parent)
    create_master_key_file(path)
    yield f"created the master key of the key custody, {path}; back it up apart from the keys"


def _private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
