"""What the caller may reach, and the catalogue."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from broker import errors
from broker.model import Action, Obligation
from tests.doubles.issuing import TablePolicies, instance
from tests.web.conftest import GOOD, Hall

Client = TestClient[web.Request, web.Application]


async def listing(client: Client, query: str = "") -> dict[str, Any]:
    response = await client.get(f"/v1/instances{query}", headers=GOOD)
    assert response.status == 200, await response.text()
    document: dict[str, Any] = await response.json()
    return document


async def walk(client: Client, limit: int) -> list[list[str]]:
    """Follow the cursors from page to page; answer the names on each."""
    pages, query = [], f"?limit={limit}"
    while True:
        document = await listing(client, query)
        pages.append([item["name"] for item in document["items"]])
        if document["next_cursor"] is None:
            return pages
        query = f"?limit={limit}&cursor={document['next_cursor']}"


@pytest.mark.parametrize(
    ("limit", "sizes"), [(1, [1, 1, 1, 1]), (2, [2, 2]), (3, [3, 1]), (4, [4]), (5, [4]), (1000, [4])]
)
async def test_pages_follow_each_other_until_all_that_may_be_seen_was_shown(
    client: Client, limit: int, sizes: list[int]
) -> None:
    pages = await walk(client, limit)
    assert [len(page) for page in pages] == sizes
    assert [name for page in pages for name in page] == ["web-0", "web-1", "web-2", "web-3"]


async def test_what_may_not_be_seen_leaves_no_hole_and_no_cursor(hall: Hall) -> None:
    hall.policies = TablePolicies([(Action.LIST, "web-0"), (Action.LIST, "web-4")])
    async with TestClient(hall.server()) as client:
        assert await walk(client, 1) == [["web-0"], ["web-4"]]
        hall.policies = TablePolicies([])
    async with TestClient(hall.server()) as client:
        assert await listing(client) == {"items": [], "next_cursor": None}


async def test_no_more_is_decided_than_a_page_needs(hall: Hall) -> None:
    hall.instances = [instance(f"web-{n}") for n in range(8)]
    hall.policies = policies = TablePolicies([(Action.LIST, f"web-{n}") for n in (0, 1, 2, 6, 7)])
    async with TestClient(hall.server()) as client:
        page = await listing(client, "?limit=1")
        assert policies.decided_each == 2
        page = await listing(client, f"?limit=2&cursor={page['next_cursor']}")
    assert [item["name"] for item in page["items"]] == ["web-1", "web-2"]
    assert page["next_cursor"] is not None
    assert policies.decided_each == 2 + 6


async def test_a_page_goes_on_where_the_last_one_ended_though_instances_came_and_went(hall: Hall) -> None:
    async with TestClient(hall.server()) as client:
        cursor = (await listing(client, "?limit=2"))["next_cursor"]
    hall.instances = [instance("web-1a"), *(instance(f"web-{n}") for n in (0, 2, 3))]  # web-1 is gone
    hall.policies = TablePolicies([(Action.LIST, each.ref.name) for each in hall.instances])
    async with TestClient(hall.server()) as client:
        names = [item["name"] for item in (await listing(client, f"?cursor={cursor}"))["items"]]
    assert names == ["web-1a", "web-2", "web-3"]


@pytest.mark.parametrize("cursor", ["x", "%00", "YQ", "////", "é", "AA==%0A"])
async def test_a_cursor_of_somebody_s_own_making_is_refused(client: Client, cursor: str) -> None:
    response = await client.get(f"/v1/instances?cursor={cursor}", headers=GOOD)
    assert response.status == 400
    assert (await response.json(content_type=None))["code"] == "invalid_request"


async def test_an_instance_is_described_with_the_protocols_that_open_it(client: Client) -> None:
    items = (await listing(client))["items"]
    assert [item["protocols"] for item in items] == [["ssh"], ["ssh"], [], []]
    assert items[0] == {
        "account": "main",
        "region": "eu-west-1",
        "name": "web-0",
        "platform": "LINUX_UNIX",
        "blueprint": "amazon_linux_2023",
        "bundle": "nano_3_0",
        "state": "running",
        "tags": {},
        "protocols": ["ssh"],
        "warnings": [],
    }
    alone = await client.get("/v1/instances/main/eu-west-1/web-0", headers=GOOD)
    assert await alone.json() == items[0]


async def test_what_a_reason_would_open_counts_as_reachable(hall: Hall) -> None:
    hall.policies = TablePolicies([(Action.LIST, "web-0")], obligations=(Obligation.REASON,))
    async with TestClient(hall.server()) as client:
        assert [item["protocols"] for item in (await listing(client))["items"]] == [["ssh"]]


MISSING = {
    "a name that is not there": "main/eu-west-1/no-such",
    "another region": "main/eu-west-2/web-0",
    "another account": "other/eu-west-1/web-0",
    "no name at all": "main/eu-west-1/-",
    "an encoded slash": "main/eu-west-1/web%2F0",
    "an encoded NUL": "main/eu-west-1/web%000",
    "no ASCII": "main/eu-west-1/w%C3%A9b",
    "no UTF-8": "main/eu-west-1/%FF%FE",
    "dots": "main/eu-west-1/..%2F..",
    "a long name": "main/eu-west-1/" + "a" * 2000,
}


@pytest.mark.parametrize("path", MISSING.values(), ids=MISSING.keys())
async def test_hidden_and_missing_are_the_same_byte_for_byte_but_for_ids(client: Client, path: str) -> None:
    async def ask(where: str) -> tuple[int, dict[str, str], bytes]:
        response = await client.get(f"/v1/instances/{where}", headers=GOOD)
        request_id = response.headers["X-Request-Id"]
        headers = {k: v for k, v in response.headers.items() if k.lower() not in {"x-request-id", "date"}}
        return response.status, headers, (await response.read()).replace(request_id.encode(), b"ID")

    hidden = await ask("main/eu-west-1/web-4")
    assert hidden[0] == 403
    assert await ask(path) == hidden


async def test_the_catalogue_speaks_aws_s_own_names(client: Client) -> None:
    (blueprint,) = (await (await client.get("/v1/blueprints", headers=GOOD)).json())["items"]
    assert set(blueprint) == {
        *("blueprintId", "name", "group", "type", "description", "isActive", "minPower", "version", "versionCode"),
        *("productUrl", "licenseUrl", "platform", "appCategory"),
    }
    (bundle,) = (await (await client.get("/v1/bundles", headers=GOOD)).json())["items"]
    assert set(bundle) == {
        *("bundleId", "name", "instanceType", "isActive", "price", "cpuCount", "ramSizeInGb", "diskSizeInGb"),
        *("transferPerMonthInGb", "power", "supportedPlatforms", "supportedAppCategories", "publicIpv4AddressCount"),
    }
    assert (blueprint["blueprintId"], blueprint["platform"], bundle["supportedPlatforms"]) == (
        "amazon_linux_2023",
        "LINUX_UNIX",
        ["LINUX_UNIX"],
    )


TAGS = {
    "the same": ("{}", 304),
    "the same, said to be weak": ("W/{}", 304),
    "one of several": ('"other", {}', 304),
    "any": ("*", 304),
    "another": ('"other"', 200),
    "without quotes": ("bare", 200),
}


@pytest.mark.parametrize(("header", "status"), TAGS.values(), ids=TAGS.keys())
@pytest.mark.parametrize("path", ["/v1/blueprints", "/v1/bundles"])
async def test_who_has_it_already_gets_304(client: Client, path: str, header: str, status: int) -> None:
    first = await client.get(path, headers=GOOD)
    etag = first.headers["ETag"]
    assert etag.startswith('"')
    assert etag.endswith('"')
    again = await client.get(path, headers={**GOOD, "If-None-Match": header.format(etag)})
    assert (again.status, again.headers["ETag"]) == (status, etag)
    assert await again.read() == (b"" if status == 304 else await first.read())


async def test_another_question_has_another_tag(client: Client) -> None:
    blueprints = await client.get("/v1/blueprints", headers=GOOD)
    bundles = await client.get("/v1/bundles", headers={**GOOD, "If-None-Match": blueprints.headers["ETag"]})
    assert bundles.status == 200


async def test_what_is_no_longer_sold_is_shown_on_demand(client: Client) -> None:
    for path in ("/v1/blueprints", "/v1/bundles"):
        plain = (await (await client.get(path, headers=GOOD)).json())["items"]
        more = (await (await client.get(f"{path}?include_inactive=true", headers=GOOD)).json())["items"]
        assert [item["isActive"] for item in plain] == [True]
        assert sorted(item["isActive"] for item in more) == [False, True]


async def test_bundles_for_a_blueprint_and_for_one_that_is_not_there(client: Client) -> None:
    assert (await client.get("/v1/bundles?blueprint=amazon_linux_2023", headers=GOOD)).status == 200
    response = await client.get("/v1/bundles?blueprint=no-such", headers=GOOD)
    assert (response.status, (await response.json(content_type=None))["code"]) == (404, "not_found")


async def test_an_upstream_that_is_away_is_a_503_of_its_own(hall: Hall) -> None:
    hall.inventory_error = errors.UpstreamUnavailable(retry_after=7)
    async with TestClient(hall.server()) as client:
        response = await client.get("/v1/instances", headers=GOOD)
        assert (response.status, response.headers["Retry-After"]) == (503, "7")


def test_whatever_is_no_credential_only_looks(hall: Hall) -> None:
    routes, _ = hall.routes()
    assert {route.path for route in routes if route.method != "GET"} == {"/v1/credentials", "/v1/decisions"}
