"""What the ledger's tests share: a key, a folder of its own, and logs ready to be read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import Signer, VerifierKey
from broker.audit.chunks import Chunking
from broker.audit.events import document
from broker.audit.ledger import Ledger
from broker.audit.receipts import Receipt
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.verification import Report, verify_database
from broker.model import Event
from tests.doubles.audit import ManualClock, an_event

ORIGIN = "broker.example.com/audit"


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer(ORIGIN, Ed25519PrivateKey.generate())


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state" / "audit.db"


def write_log(path: Path, signer: Signer, events: Sequence[Event], seal_every: int = 0) -> list[str]:
    """Write a whole log at once, sealed at its end and after every so many events; answer the notes."""
    store = SqliteStore(path)
    clock = ManualClock(step=timedelta(milliseconds=7))
    Ledger(store, signer, clock).create()
    ledger = Ledger(store, signer, clock)
    ledger.open()
    notes = [ledger.newest_note()]
    step = seal_every or max(1, len(events))
    for start in range(0, len(events), step):
        ledger.write([document(event) for event in events[start : start + step]])
        notes.append(ledger.tend(seal=True))
    ledger.close()
    return notes


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Path:
    """Answer a log of 64 events, sealed every 16; tests copy it before they touch it."""
    path = tmp_path_factory.mktemp("pristine") / "audit.db"
    write_log(path, signer, [an_event(number=number, reason=f"reason {number}") for number in range(64)], 16)
    return path


def verified(
    path: Path,
    key: VerifierKey,
    outside: Sequence[str] = (),
    receipts: Sequence[Receipt] = (),
    archives: Sequence[Path] = (),
    *,
    shared: bool = False,
) -> Report:
    """Verify a log record by record, and in chunks as if it were large: the report must be the same."""
    report = verify_database(path, key, outside, receipts, archives, shared=shared)
    for level in (2, 8):
        chunking = Chunking(0, level, lambda: ThreadPoolExecutor(1))
        assert verify_database(path, key, outside, receipts, archives, shared=shared, chunking=chunking) == report
    return report
