"""Metrics: labels that nobody outside can multiply."""

from __future__ import annotations

import re

from aiohttp.test_utils import TestClient

from broker.model import Health
from broker.observability import Metrics
from tests.doubles.web import ANSWERED
from tests.web.conftest import GOOD, Hall


def series(page: str) -> set[str]:
    return {line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")}


async def test_no_caller_can_make_new_series() -> None:
    async with TestClient(Hall().server()) as client:

        async def strange_requests(number: int) -> None:
            await client.get(f"/nowhere-{number}")
            await client.get(f"/v1/instances/main/eu-west-1/web-{number}", headers=GOOD)
            await client.get(f"/healthz?{number}")
            await client.request(f"METHOD{number}", "/healthz")
            await client.request(f"METHOD{number}", f"/nowhere-{number}")
            await client.post(
                "/v1/credentials", json={f"member-{number}": 1}, headers={**GOOD, "User-Agent": f"agent-{number}"}
            )

        await strange_requests(0)
        await client.get("/metrics")
        await strange_requests(8)  # web-8 is missing, web-0 was not
        before = series(await (await client.get("/metrics")).text())
        for number in range(10, 20):
            await strange_requests(number)
        after = series(await (await client.get("/metrics")).text())
    assert after == before
    assert not any(re.search(r"METHOD|nowhere|member|agent|alice", name) for name in after)


def test_readiness_of_every_component_is_a_number() -> None:
    metrics = Metrics()
    page = metrics.page([Health("audit", ready=True), Health("keys", ready=False, detail="gone")]).decode()
    assert 'broker_component_ready{component="audit"} 1.0' in page
    assert 'broker_component_ready{component="keys"} 0.0' in page
    assert "gone" not in page


def test_the_numbers_of_two_services_do_not_mix() -> None:
    first, second = Metrics(), Metrics()
    first.request(ANSWERED)
    assert b"/v1/instances" in first.page([])
    assert b"/v1/instances" not in second.page([])
