"""Numbers for Prometheus. Labels are route templates, codes and configured names: never people and instances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from broker.model import Event, Health, Measure
from broker.observability.requests import AnsweredRequest

Source = Callable[[], Iterable[Measure]]
"""Answers how something is now."""


class _Kind(NamedTuple):
    """What a number means, and by what it is told apart."""

    meaning: str
    labels: tuple[str, ...] = ()


GAUGES: Final[Mapping[str, _Kind]] = {
    "audit_events": _Kind("Events in the audit log."),
    "audit_unsealed_events": _Kind("Events that no checkpoint covers yet."),
    "audit_waiting_events": _Kind("Events of this process that wait to be written."),
    "audit_unsealed_seconds": _Kind("Seconds for which events have waited for a checkpoint; 0 when none waits."),
    "audit_anchor_late_seconds": _Kind("Seconds for which a checkpoint has waited for an anchor.", ("anchor",)),
    "event_loop_lag_seconds": _Kind("The longest stop of the event loop since the last reading."),
    "issuer_keys_age_seconds": _Kind("Seconds since the keys of an issuer were fetched.", ("issuer",)),
    "lightsail_breaker_open": _Kind("1 while calls to a region are refused because it failed.", ("account", "region")),
    "lightsail_calls": _Kind("Calls to a region that are under way.", ("account", "region")),
    "lightsail_inventory_age_seconds": _Kind("Seconds since the instances were listed.", ("account", "region")),
    "log_lines_lost": _Kind("Log lines of this process that could not be written."),
    "trace_spans_lost": _Kind("Spans of traces that did not reach the collector."),
    "tls_certificate_left_seconds": _Kind("Seconds until the certificate of the service ends."),
    "requests_in_service": _Kind("Requests that are served at this moment."),
    "requests_in_service_limit": _Kind("How many may be: fewer while the event loop is late."),
    "policies": _Kind("Policies in force."),
    "policies_age_seconds": _Kind("Seconds since the policies in force were loaded."),
    "policies_in_force": _Kind("1 for the digest of the policies in force.", ("digest",)),
}
"""What is asked for when somebody reads the page, each with the prefix `broker_`."""
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class _Asked(Collector):
    """Asks the rooms how they are, at the moment that the page is read."""

    def __init__(self) -> None:
        self.sources: list[Source] = []

    def collect(self) -> Iterator[Metric]:
        """Answer a family of samples for each number."""
        families = {
            name: GaugeMetricFamily(f"broker_{name}", kind.meaning, labels=kind.labels) for name, kind in GAUGES.items()
        }
        for source in self.sources:
            for measure in source():
                families[measure.name].add_metric(measure.labels, measure.value)
        yield from families.values()


class Metrics:
    """The numbers of one process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, version: str = "") -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "broker_requests",
            "Requests by route, status and code.",
            ("route", "method", "status", "code"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "broker_request_seconds",
            "Seconds to answer a request.",
            ("route",),
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._stages = Histogram(
            "broker_stage_seconds",
            "Seconds that a request spends at a stage.",
            ("stage",),
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._events = Counter(
            "broker_events",
            "Events that this process has written to the audit log.",
            ("event", "outcome", "error"),
            registry=self._registry,
        )
        self._refused = Counter(
            "broker_authentication_failures", "Refused tokens and sessions.", ("cause",), registry=self._registry
        )
        self._ready = Gauge(
            "broker_component_ready", "1 when a component works, else 0.", ("component",), registry=self._registry
        )
        build = Gauge("broker_build", "1 for the version that runs.", ("version",), registry=self._registry)
        build.labels(version).set(1)
        # Finding the number for a set of labels costs more than counting.
        self._counted = lru_cache(maxsize=1024)(self._requests.labels)
        self._timed = lru_cache(maxsize=1024)(self._seconds.labels)
        self._staged = lru_cache(maxsize=1024)(self._stages.labels)
        self._written = lru_cache(maxsize=1024)(self._events.labels)
        self._asked = _Asked()
        self._registry.register(self._asked)
        ProcessCollector(registry=self._registry)

    def watch(self, *sources: Source) -> None:
        """Ask these too, whenever the page is read."""
        self._asked.sources.extend(sources)

    def request(self, answered: AnsweredRequest) -> None:
        """Count one answered request."""
        self._counted(answered.route, answered.method, str(answered.status), answered.code).inc()
        self._timed(answered.route).observe(answered.ended - answered.began)
        for span in answered.stages:
            self._staged(span.stage).observe(span.ended - span.began)

    def refused(self, cause: str) -> None:
        """Count somebody whom nobody vouches for."""
        self._refused.labels(cause).inc()

    def event(self, event: Event) -> None:
        """Count one event of the audit log, once it is durable."""
        self._written(event.event, event.outcome, event.error).inc()

    def page(self, components: Iterable[Health]) -> bytes:
        """Answer the page that Prometheus reads."""
        for health in components:
            self._ready.labels(health.component).set(health.ready)
        return generate_latest(self._registry)
