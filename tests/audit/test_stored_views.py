"""The views in every store: what an append does to them, how they are read, and that they can be replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from broker.audit.events import document, encode
from broker.audit.leaves import parse
from broker.audit.merkle import EMPTY_ROOT, CompactRange, leaf_hash
from broker.audit.rebuilding import rebuild
from broker.audit.stores import Batch, Head, Node, Reader, Record, Store, StoredCheckpoint, StoredHostKeys, opening
from broker.model import Event, rfc3339
from tests.doubles.audit import NOW, an_event

NOW_MS = int(NOW.timestamp() * 1000)
MINUTE = 60_000
OLD, NEW, THIRD = (f"ssh-ed25519 {digit * 64}" for digit in "012")
WEB_1 = "main/eu-west-1/web-1"


class Shelf(NamedTuple):
    """An open store, the tree in it, and how to read it."""

    store: Store
    tree: CompactRange
    open_reader: Callable[[], Reader]

    def batch(self, *events: Event) -> Batch:
        """Make the next batch."""
        records: list[Record] = []
        completed: list[tuple[int, int, bytes]] = []
        for event in events:
            leaf = encode(document(event), self.tree.size, rfc3339(NOW))
            records.append(Record(self.tree.size, leaf_hash(leaf), leaf, parse(leaf)))
            self.tree.append(leaf_hash(leaf), completed)
        return Batch(Head(self.tree.size, self.tree.root()), records, [Node(*node) for node in completed])

    def put(self, *events: Event) -> None:
        """Append some events together."""
        batch = self.batch(*events)
        self.store.append(lambda _: batch)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real("postgresql"))])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    url = f"sqlite:///{tmp_path}/state/audit.db" if request.param == "sqlite" else request.getfixturevalue("postgresql")
    store = opening.store(url)
    store.create(StoredCheckpoint(0, EMPTY_ROOT, 0, "note"))
    store.open()
    yield Shelf(store, CompactRange(), lambda: opening.reader(url))
    store.close()


def issued(number: int, minutes: int, account: str = "main", *host_keys: str) -> Event:
    """Answer an issue of a lease that ends in so many minutes."""
    ends = NOW + timedelta(minutes=minutes)
    details = {"host_keys": host_keys} if host_keys else {}
    return an_event("credential.issued", number, account, lease_id=f"lease-{number}", expires_at=ends, details=details)


def test_leases_are_found_by_account_actor_and_instance_the_first_to_end_first(shelf: Shelf) -> None:
    shelf.put(issued(0, 3), issued(1, 1, "other"), issued(2, 2))
    with closing(shelf.open_reader()) as reader:

        def found(now: int = NOW_MS, **filters: object) -> list[str]:
            asked = {"accounts": None, "actor": None, "instance": None} | filters
            return [lease.lease_id for lease in reader.leases(now, **asked)]  # type: ignore[arg-type]  # mixed values

        assert found() == ["lease-1", "lease-2", "lease-0"]
        assert found(NOW_MS + 2 * MINUTE) == ["lease-0"]
        assert found(accounts=frozenset({"other"})) == ["lease-1"]
        assert found(accounts=frozenset()) == []
        assert found(actor="corp/alice", instance=WEB_1) == ["lease-2", "lease-0"]
        assert found(actor="corp/bob") == []
        lease = reader.leases(NOW_MS, accounts=None, actor=None, instance=WEB_1)[0]
    assert lease == ("lease-2", 2, NOW_MS + 2 * MINUTE, "corp/alice", WEB_1, "main")


def test_a_credential_that_was_withheld_is_not_out(shelf: Shelf) -> None:
    shelf.put(issued(0, 3), issued(1, 3))
    shelf.put(an_event("credential.withheld", outcome="failure", lease_id="lease-0"))
    with closing(shelf.open_reader()) as reader:
        assert [row[0] for row in reader.view("leases")] == ["lease-1"]


def test_the_first_host_keys_stay_until_others_are_accepted(shelf: Shelf) -> None:
    failed = an_event("credential.failed", error="host_key_changed", details={"host_keys": (NEW,)})
    shelf.put(issued(0, 3, "main", OLD), issued(1, 3, "main", THIRD))
    with closing(shelf.open_reader()) as reader:
        assert reader.host_keys(WEB_1) == StoredHostKeys(WEB_1, 0, (OLD,), None, ())
        assert reader.host_keys("main/eu-west-1/web-2") is None
        shelf.put(failed)
        assert reader.host_keys(WEB_1) == StoredHostKeys(WEB_1, 0, (OLD,), 2, (NEW,))
        shelf.put(an_event("host_keys.accepted", details={"host_keys": (NEW,)}), replace(failed, request_id="r"))
        assert reader.all_host_keys() == [StoredHostKeys(WEB_1, 3, (NEW,), 4, (NEW,))]


def test_views_are_replaced_together_with_the_event_that_says_so(shelf: Shelf) -> None:
    shelf.put(an_event("credential.requested", 1), issued(0, 3, "main", OLD))
    with closing(shelf.open_reader()) as reader:
        right = rebuild(reader)
        assert right.differences == []
        wrong: dict[str, list[tuple[object, ...]]] = {name: [] for name in right.views} | {
            "leases": [("x", 0, 9, "a", WEB_1, "main")]
        }
        batch = replace(shelf.batch(an_event("audit.rebuilt")), views=wrong)
        shelf.store.append(lambda _: batch)
        assert {name: list(reader.view(name)) for name in wrong} == wrong
        assert [line.partition(":")[0] for line in rebuild(reader).differences] == [
            "open_requests", "leases", "leases", "host_keys",
        ]  # fmt: skip
        batch = replace(shelf.batch(an_event("audit.rebuilt")), views=right.views)
        shelf.store.append(lambda _: batch)
        assert rebuild(reader).differences == []
        assert rebuild(reader).views == right.views
