"""The client for asyncio: the same answers, several at once, and a loop that is not held up."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from broker import client
from broker.client import Access, AsyncBroker, Broker, BrokerProblem, Misconfigured
from broker.client.documents import InstanceDocument
from tests.doubles.client import Answer, ServiceDouble, instance, page, problem, ssh_credential

ROUTE = "POST /v1/credentials"


def arrived(service: ServiceDouble, number: int) -> None:
    """Wait until so many requests are there."""
    deadline = time.monotonic() + 10
    while len(service.seen) < number and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.fixture
async def broker(environment: dict[str, str]) -> AsyncIterator[AsyncBroker]:
    async with AsyncBroker.from_environment(environment, connections=3) as broker:
        yield broker


async def test_it_answers_what_the_other_answers(
    broker: AsyncBroker, environment: dict[str, str], service: ServiceDouble
) -> None:
    service.tell(ROUTE, Answer(ssh_credential(), 201))
    service.tell("GET /v1/instances", page(instance("a1"), cursor="2"), page(instance("b2")))
    found: list[InstanceDocument] = await broker.instances()
    assert [each["name"] for each in found] == ["a1", "b2"]
    credential = await broker.credential("web-1", reason="deploy")
    with Broker(Access.from_environment(environment)) as other:
        assert await asyncio.to_thread(other.credential, "web-1", reason="deploy") == credential
    bodies = [seen.body for seen in service.seen if seen.method == "POST"]
    assert bodies == [{"instance": "web-1", "reason": "deploy"}] * 2


async def test_every_listing_and_look_up_is_there(broker: AsyncBroker, service: ServiceDouble) -> None:
    for route in ("blueprints", "bundles", "leases", "hosts"):
        service.tell(f"GET /v1/{route}", page({"route": route}))
    receipt = {"index": 7, "leaf_hash": "x", "checkpoint": None, "proof": None}
    service.tell("GET /v1/audit/receipts/7", Answer(receipt))
    service.tell("GET /v1/whoami", Answer({"subject": "alice"}))
    service.tell("POST /v1/decisions", Answer({"decision": "deny", "policies": [], "obligations": ["reason"]}))
    listings = (broker.blueprints(), broker.bundles(blueprint="b"), broker.leases(actor="a"), broker.hosts())
    assert [len(items) for items in await asyncio.gather(*listings)] == [1, 1, 1, 1]
    assert await broker.receipt(7) == receipt
    assert (await broker.whoami())["subject"] == "alice"
    assert (await broker.decision("web-1"))["obligations"] == ["reason"]


async def test_calls_run_beside_each_other_on_as_many_connections_as_there_may_be(
    broker: AsyncBroker, service: ServiceDouble
) -> None:
    gate = threading.Event()
    service.tell(ROUTE, Answer(ssh_credential(), 201, gate=gate))
    calls = [asyncio.create_task(broker.credential(f"web-{number}")) for number in range(9)]
    await asyncio.to_thread(arrived, service, 3)
    assert len({seen.connection for seen in service.seen}) == 3
    gate.set()
    names = {call["audit"]["index"] for call in await asyncio.gather(*calls)}
    assert names == {41}
    assert len(service.seen) == 9
    assert len({seen.connection for seen in service.seen}) == 3


async def test_a_cancelled_call_spoils_no_other(broker: AsyncBroker, service: ServiceDouble) -> None:
    gate = threading.Event()
    service.tell(ROUTE, Answer(ssh_credential(), 201, gate=gate))
    given_up = asyncio.create_task(broker.credential("web-1"))
    await asyncio.to_thread(arrived, service, 1)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    gate.set()
    assert (await broker.credential("web-1"))["protocol"] == "ssh"


async def test_errors_are_the_same(broker: AsyncBroker, service: ServiceDouble) -> None:
    service.tell(ROUTE, problem(403, "denied"))
    with pytest.raises(BrokerProblem) as refusal:
        await broker.credential("web-1")
    assert refusal.value.code == "denied"
    with pytest.raises(Misconfigured):
        await broker.credential("a/b")


def test_what_is_not_there_is_not_made_up() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        client.Nothing  # noqa: B018 -- asking is the test
