"""Requests as traces of OpenTelemetry, for whoever has a collector. Needs the extra `otel`.

A trace is made once a request has been answered, of the very stages that log line and numbers have, so a request waits
for nothing. Spans name routes, codes and statuses: never people, instances, headers or bodies.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import requests
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from broker import __version__
from broker.model import Clock, Measure
from broker.observability.requests import AnsweredRequest

_MOST_WAITING: Final = 4096
_EXPORT_SECONDS: Final = 5.0
_LAST_SECONDS: Final = 2.0
_SERVER_FAULT: Final = 500


@dataclass(slots=True)
class _Counting(SpanExporter):
    """Counts what becomes of spans on their way to the collector."""

    exporter: SpanExporter
    handed: int = 0
    sent: int = 0
    lost: int = 0

    @property
    def waiting(self) -> int:
        return self.handed - self.sent - self.lost

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self.exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
        else:
            self.lost += len(spans)
        return result

    def shutdown(self) -> None:
        self.exporter.shutdown()


class Tracing:
    """Sends traces to a collector, by OTLP over HTTP, in the background.

    A collector that is slow or gone costs traces, which are counted, and no request anything.

    Args:
        endpoint: URL that takes traces, such as `http://127.0.0.1:4318/v1/traces`.
        clock: the time now.
    """

    def __init__(self, endpoint: str, clock: Clock) -> None:
        session = requests.Session()
        session.trust_env = False  # no proxy of the environment comes in between
        self._way = _Counting(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_SECONDS, session=session))
        self._sending = BatchSpanProcessor(self._way, max_queue_size=_MOST_WAITING, schedule_delay_millis=1000)
        about = Resource({"service.name": "lightsail-credential-broker", "service.version": __version__})
        self._provider = TracerProvider(ALWAYS_ON, about, shutdown_on_exit=False)
        self._provider.add_span_processor(self._sending)
        self._tracer = self._provider.get_tracer("broker", __version__)
        self._clock = clock

    def measures(self) -> Iterator[Measure]:
        """Answer how many spans did not get through."""
        yield Measure("trace_spans_lost", self._way.lost)

    def request(self, answered: AnsweredRequest) -> None:
        """Make the trace of a request."""
        spans = 1 + len(answered.stages)
        self._way.handed += spans
        if self._way.waiting > _MOST_WAITING:
            self._way.lost += spans
            return
        offset = self._clock().timestamp() - perf_counter()
        span = self._tracer.start_span(
            f"{answered.method} {answered.route}",
            _context(answered.parent),
            SpanKind.SERVER,
            {
                "http.request.method": answered.method,
                "http.route": answered.route,
                "http.response.status_code": answered.status,
                "broker.request_id": answered.request_id,
                **({"error.type": answered.code} if answered.code else {}),
            },
            start_time=_nanoseconds(answered.began + offset),
        )
        if answered.status >= _SERVER_FAULT:
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span)
        for stage in answered.stages:
            child = self._tracer.start_span(stage.stage, inside, start_time=_nanoseconds(stage.began + offset))
            child.end(_nanoseconds(stage.ended + offset))
        span.end(_nanoseconds(answered.ended + offset))

    def _close(self) -> None:
        self._sending.force_flush(round(_LAST_SECONDS * 1000))
        self._provider.shutdown()


@asynccontextmanager
async def tracing(endpoint: str, clock: Clock) -> AsyncIterator[Tracing]:
    """Send traces until the context ends, and what is left for two seconds more; see `Tracing`."""
    traces = Tracing(endpoint, clock)
    try:
        yield traces
    finally:
        closing = asyncio.to_thread(traces._close)  # noqa: SLF001 - of this module
        await asyncio.wait((asyncio.create_task(closing),), timeout=_LAST_SECONDS)


def _context(traceparent: str) -> Context:
    """Read whose part the request is (W3C Trace Context); whatever is none makes a trace of its own."""
    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}) if traceparent else Context()


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
