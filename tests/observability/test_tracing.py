"""Traces: of every request, of nothing that nobody should see, and at nobody's cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from broker.model import utc_now
from broker.observability.tracing import Tracing, tracing
from broker.stages import Span
from tests.doubles.web import ANSWERED


class Collector:
    """Takes traces as a collector of OpenTelemetry does; refuses or holds them back when it is told to."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[Mapping[str, str]] = []
        self.status = 200
        self.hangs = False

    async def take(self, request: web.Request) -> web.Response:
        if self.hangs:
            await asyncio.sleep(60)
        asked = ExportTraceServiceRequest.FromString(await request.read())
        for resource in asked.resource_spans:
            self.resources.append({each.key: each.value.string_value for each in resource.resource.attributes})
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response(status=self.status)


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
async def endpoint(collector: Collector) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_post("/v1/traces", collector.take)
    server = TestServer(application, shutdown_timeout=0)
    await server.start_server()
    yield str(server.make_url("/v1/traces"))
    await server.close()


def now(seconds: float = 0.02) -> Any:
    ended = time.perf_counter()
    began = ended - seconds
    return replace(ANSWERED, began=began, ended=ended, stages=[Span("record", began, began + seconds / 2)])


def lost(traces: Tracing) -> int:
    [measure] = traces.measures()
    return int(measure.value)


async def test_a_request_becomes_a_span_with_one_inside_for_each_stage(collector: Collector, endpoint: str) -> None:
    before = time.time_ns()
    async with tracing(endpoint, utc_now) as traces:
        traces.request(now())
    request, stage = sorted(collector.spans, key=lambda span: str(span.name))
    assert (request.name, stage.name) == ("GET /v1/instances", "record")
    assert stage.parent_span_id == request.span_id
    assert stage.trace_id == request.trace_id
    assert {each.key for each in request.attributes} == {
        "http.request.method",
        "http.route",
        "http.response.status_code",
        "broker.request_id",
    }
    assert 15_000_000 < request.end_time_unix_nano - request.start_time_unix_nano < 25_000_000
    assert before - 100_000_000 < request.start_time_unix_nano <= stage.start_time_unix_nano
    assert stage.end_time_unix_nano < request.end_time_unix_nano <= time.time_ns()
    assert collector.resources[0]["service.name"] == "lightsail-credential-broker"
    assert lost(traces) == 0


async def test_it_is_part_of_the_caller_s_trace_and_nonsense_makes_one_of_its_own(
    collector: Collector, endpoint: str
) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    async with tracing(endpoint, utc_now) as traces:
        for sent in (f"00-{trace}-{parent}-00", "00-nonsense", "x" * 10_000):
            traces.request(replace(now(), parent=sent, stages=[]))
    first, *others = collector.spans
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (trace, parent)  # though it was not sampled there
    assert len(others) == 2
    assert all(span.trace_id.hex() != trace and not span.parent_span_id for span in others)


async def test_a_failure_of_ours_is_marked(collector: Collector, endpoint: str) -> None:
    async with tracing(endpoint, utc_now) as traces:
        traces.request(replace(now(), status=503, code="audit_unavailable", stages=[]))
        traces.request(replace(now(), status=403, code="denied", stages=[]))
    assert [span.status.code for span in collector.spans] == [2, 0]
    codes = [
        each.value.string_value for span in collector.spans for each in span.attributes if each.key == "error.type"
    ]
    assert codes == ["audit_unavailable", "denied"]


async def test_a_collector_that_refuses_costs_traces_and_that_is_counted(collector: Collector, endpoint: str) -> None:
    collector.status = 400
    async with tracing(endpoint, utc_now) as traces:
        traces.request(now())
    assert lost(traces) == 2


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_collector_that_hangs_or_is_gone_holds_nobody_up(
    collector: Collector, endpoint: str, *, is_there: bool
) -> None:
    collector.hangs = True
    async with asyncio.timeout(8), tracing(endpoint if is_there else "http://127.0.0.1:9/v1/traces", utc_now) as traces:
        for _ in range(5000):
            traces.request(now())
        assert lost(traces) >= 5000
