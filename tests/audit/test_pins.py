from pathlib import Path

from broker.audit.pins import Pins
from broker.model import Event, InstanceRef
from tests.issuing.conftest import Book, a_book

WEB, DB = InstanceRef("main", "eu-west-1", "web-1"), InstanceRef("main", "eu-west-1", "db-1")
OLD, NEW = "ssh-ed25519 " + "0" * 64, "ssh-ed25519 " + "1" * 64


class CountingViews:
    """The views of a book, and how often they were asked."""

    def __init__(self, book: Book) -> None:
        self._views = book.views
        self.asked = 0

    async def pinned(self, instance: InstanceRef) -> frozenset[str] | None:
        self.asked += 1
        return await self._views.pinned(instance)


def told(event: str, instance: InstanceRef, *keys: str) -> Event:
    return Event(event=event, outcome="success", request_id="r", instance=instance, details={"host_keys": keys})


async def test_a_pin_is_read_once_and_again_after_others_were_accepted(tmp_path: Path) -> None:
    async with a_book(tmp_path) as book:
        views = CountingViews(book)
        pins = Pins(views, book.log)
        assert await pins.pinned(WEB) is None
        await book.log.append(told("credential.issued", WEB, OLD))
        assert [await pins.pinned(WEB) for _ in range(3)] == [frozenset({OLD})] * 3
        assert views.asked == 2

        await book.log.append(told("host_keys.accepted", DB, NEW))
        assert (await pins.pinned(WEB), await pins.pinned(DB)) == (frozenset({OLD}), frozenset({NEW}))
        await book.log.append(told("host_keys.accepted", WEB, NEW))
        assert await pins.pinned(WEB) == frozenset({NEW})
        assert views.asked == 4


async def test_an_acceptance_counts_though_its_caller_has_gone(tmp_path: Path) -> None:
    async with a_book(tmp_path) as book:
        pins = Pins(book.views, book.log)
        await book.log.append(told("credential.issued", WEB, OLD))
        assert await pins.pinned(WEB) == frozenset({OLD})
        waiting = book.log.append(told("host_keys.accepted", WEB, NEW))
        try:
            waiting.send(None)  # on its way to the writer
        finally:
            waiting.close()  # the caller is gone
        await book.log.append(Event(event="keys.added", outcome="success"))
        assert await pins.pinned(WEB) == frozenset({NEW})
