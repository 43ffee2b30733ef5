"""The listing of access requests: who has not been told of what waits for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from broker.issuing.approvals import Wish
from broker.model import Secret, Source
from broker.notification.deliveries import Deliveries
from broker.outbound.notices import Selection
from broker.outbound.webhooks import Receiver
from broker.web.requests import RequestOut, RequestPage, RequestQuery, Requests
from broker.web.routes import Nothing, Visit
from tests.doubles.issuing import SOURCE
from tests.doubles.outbound import SECRET
from tests.issuing.conftest import Book, a_book
from tests.issuing.test_agreements import DEV, LEAD, requests, says, wants


def receiver(name: str, *patterns: str) -> Receiver:
    return Receiver(name, "https://pager.example.com", Secret(SECRET), Selection(patterns), allow_private=False)


class Listing:
    """The route, and how far the receivers have come."""

    def __init__(self, book: Book) -> None:
        told = [receiver("pager", "request.*"), receiver("chat", "*"), receiver("siem", "credential.*")]
        self.positions: dict[str, int] = {}
        self.desk = requests(book)
        self.route = Requests(self.desk, Deliveries(told, self.followers), book.clock)

    async def followers(self) -> Mapping[str, int]:
        return self.positions

    async def late(self) -> list[list[str]]:
        visit = Visit("r1", SOURCE, "https://broker.example.com", {}, RequestQuery(), Nothing())
        page = (await self.route.list(visit, DEV)).content
        assert isinstance(page, RequestPage)
        return [request.undelivered for request in page.items]


async def test_a_receiver_that_could_not_be_told_in_time_is_named(tmp_path: Path) -> None:
    async with a_book(tmp_path) as book:
        listing = Listing(book)
        request = await listing.desk.create(wants(), Wish())
        assert await listing.late() == [[]]  # a notice takes its time
        book.later(seconds=11)
        listing.positions = {"webhook:pager": request.index + 1, "webhook:chat": request.index}
        assert await listing.late() == [["chat"]]
        listing.positions = {"webhook:pager": request.index}
        assert await listing.late() == [["pager", "chat"]]
        visit = Visit("r1", Source("::1"), "", {"id": request.id}, Nothing(), Nothing())
        shown = (await listing.route.show(visit, DEV)).content
        assert isinstance(shown, RequestOut)
        assert shown.undelivered == ["pager", "chat"]
        await listing.desk.deny(request.id, says(LEAD))
        assert await listing.late() == [[]]  # it waits for nobody any more


async def test_without_receivers_nobody_is_late(tmp_path: Path) -> None:
    async with a_book(tmp_path) as book:
        listing = Listing(book)
        route = Requests(listing.desk, Deliveries([], listing.followers), book.clock)
        await listing.desk.create(wants(), Wish(pending_for=timedelta(hours=1)))
        book.later(minutes=5)
        visit = Visit("r1", SOURCE, "", {}, RequestQuery(), Nothing())
        page = (await route.list(visit, DEV)).content
        assert isinstance(page, RequestPage)
        assert page.items[0].undelivered == []
