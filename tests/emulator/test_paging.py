from __future__ import annotations

import pytest

from broker.emulator import Emulator
from broker.emulator.errors import AwsError
from broker.emulator.paging import Pages
from tests.emulator.clients import Refusal, lightsail


async def test_a_paginator_walks_every_page_once(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        pages = [page["instances"] async for page in client.get_paginator("get_instances").paginate()]
    assert [len(page) for page in pages] == [5, 2]
    assert len({instance["name"] for page in pages for instance in page}) == 7


async def test_the_last_page_has_no_token(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        first = await client.get_instances()
        last = await client.get_instances(pageToken=first["nextPageToken"])
    assert "nextPageToken" not in last


async def test_an_empty_token_is_the_first_page(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        assert len((await client.get_instances(pageToken=""))["instances"]) == 5


@pytest.mark.parametrize("token", ["x", "5", "====", "AAAABQ==", "ünïcode"])
async def test_a_token_that_was_not_given_is_refused(emulator: Emulator, token: str) -> None:
    async with lightsail(emulator) as client:
        with Refusal() as refusal:
            await client.get_instances(pageToken=token)
    assert refusal.code == "InvalidInputException"


async def test_a_token_of_another_listing_is_refused(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        token = (await client.get_bundles())["nextPageToken"]
        with Refusal() as other_operation:
            await client.get_blueprints(pageToken=token)
        with Refusal() as other_arguments:
            await client.get_bundles(pageToken=token, includeInactive=True)
    assert other_operation.code == other_arguments.code == "InvalidInputException"


@pytest.mark.parametrize(("count", "pages"), [(0, [0]), (4, [4]), (5, [5]), (6, [5, 1]), (10, [5, 5])])
def test_pages_are_full_but_for_the_last(count: int, pages: list[int]) -> None:
    cut = Pages(5)
    items, token = cut.page(range(count), None, "x")
    sizes = [len(items)]
    while token is not None:
        items, token = cut.page(range(count), token, "x")
        sizes.append(len(items))
    assert sizes == pages


def test_a_token_holds_for_one_life_of_the_emulator() -> None:
    _, token = Pages(5).page(range(9), None, "x")
    with pytest.raises(AwsError, match="InvalidInputException"):
        Pages(5).page(range(9), token, "x")
