"""What operators see: one JSON line per event on stderr, and Prometheus metrics with bounded labels.

Local variables, bodies and secrets never get into a line, whatever the level; every line is one line.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterable, MutableMapping
from typing import Any, BinaryIO

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from broker.model import Health

_MAX_TEXT = 2_000
_MAX_FRAMES = 12


def _place_of_error(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put the kind and the place of an exception for `exc_info`; its text may hold anything, so it stays out."""
    if line.pop("exc_info", None) and (error := sys.exc_info()[1]):
        line["error"] = type(error).__name__
        line["frames"] = [
            f"{frame.f_globals.get('__name__', '?')}:{number} {frame.f_code.co_name}"
            for frame, number in traceback.walk_tb(error.__traceback__)
        ][-_MAX_FRAMES:]
    return line


def _bounded(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Cut long texts, drop what is None, and make lone surrogates harmless."""
    return {
        name: value[:_MAX_TEXT].encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for name, value in line.items()
        if value is not None
    }


def _json(line: object, **_: object) -> bytes:
    return orjson.dumps(line, default=lambda value: type(value).__name__, option=orjson.OPT_NON_STR_KEYS)


class _ToStructlog(logging.Handler):
    """Carries what libraries log by the standard library into the same JSON lines: message and place, no traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's bad format string must not stop the service
            message = str(record.msg)
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        structlog.get_logger(record.name).log(record.levelno, message, error=error)


def configure_logging(stream: BinaryIO | None = None, level: int = logging.INFO) -> None:
    """Send every line, ours and the libraries', to a stream (stderr) as JSON. Called once, at start."""
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _place_of_error,
            _bounded,
            structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(stream or sys.stderr.buffer),
        cache_logger_on_first_use=stream is None,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING, force=True)


class Metrics:
    """The numbers of one service. Labels are route templates, codes and component names: never names of people."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "broker_requests", "Requests by route and status.", ("route", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "broker_request_seconds",
            "Seconds to answer a request.",
            ("route",),
            registry=self._registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self._ready = Gauge(
            "broker_component_ready", "1 when a component works, else 0.", ("component",), registry=self._registry
        )

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(route, method if route != "-" else "-", str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def page(self, components: Iterable[Health]) -> bytes:
        """Answer the page that Prometheus reads."""
        for health in components:
            self._ready.labels(health.component).set(health.ready)
        return generate_latest(self._registry)
