"""The operators' log: one JSON line per event on stderr.

Local variables, bodies and secrets never get into a line, whatever the level; every line is one line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any, BinaryIO, cast

import orjson
import structlog

from broker.model import Measure
from broker.observability.sink import Sink

_MAX_TEXT = 2_000
_MAX_FRAMES = 12
_MAX_ITEMS = 50
_MAX_INTEGER = 1 << 53
_STAMP = structlog.processors.TimeStamper(fmt="iso", utc=True)
_sinks: list[Sink] = []
"""The one in use: logging is configured for the whole process."""


def _place_of_error(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put the kind and the place of an exception for `exc_info`; its text may hold anything, so it stays out."""
    given = line.pop("exc_info", None)
    if error := given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None:
        line["error"] = type(error).__name__
        line["frames"] = [
            f"{frame.f_globals.get('__name__', '?')}:{number} {frame.f_code.co_name}"
            for frame, number in traceback.walk_tb(error.__traceback__)
        ][-_MAX_FRAMES:]
    return line


def _bounded(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep plain values only, each of bounded size; drop what is None."""
    return {name: _plain(value) for name, value in line.items() if value is not None}


def _plain(value: object) -> object:
    """Cut long texts and lists, make lone surrogates harmless, and write anything else as its type's name."""
    match value:
        case str():
            return value[:_MAX_TEXT].encode("utf-8", "replace").decode()
        case bool() | float() | None:
            return value
        case int():
            return value if abs(value) < _MAX_INTEGER else "a large integer"
        case list() | tuple():
            return [_plain(item) for item in value[:_MAX_ITEMS]]
    return type(value).__name__


def _json(line: object, **_: object) -> bytes:
    """Write one line of JSON; outside ASCII there are characters that end a line or turn it round, so escape them."""
    text = orjson.dumps(line)
    return text if text.isascii() else json.dumps(line, separators=(",", ":")).encode("ascii")


class _ToStructlog(logging.Handler):
    """Carries what libraries log by the standard library into the same JSON lines: message and kind of error alone.

    Of a message only its first line: asyncio puts the texts of exceptions into the others.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's bad format string must not stop the service
            message = str(record.msg)
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        first_line = message.partition("\n")[0]
        # As an argument, and not as the event itself: a message may hold anything, "%" too.
        structlog.get_logger().log(level, "library", logger=record.name, message=first_line, error=error)


def _last_resort(error: BaseException | None, where: str) -> None:
    structlog.get_logger().error("unexpected failure outside of any request", where=where, exc_info=error)


def catch_what_nobody_catches() -> None:
    """Let threads and finalizers that fail leave a line of this log, instead of a traceback with whatever text."""
    threading.excepthook = lambda failure: _last_resort(failure.exc_value, "thread")
    sys.unraisablehook = lambda failure: _last_resort(failure.exc_value, "finalizer")


def catch_what_no_task_catches(loop: asyncio.AbstractEventLoop) -> None:
    """Let callbacks, signal handlers and forgotten tasks do so too: asyncio tells what a callback was called with."""
    loop.set_exception_handler(lambda _, context: _last_resort(context.get("exception"), "event loop"))


def _gap(lines: int) -> bytes:
    """Make the line that stands for those that were lost."""
    line = {"event": "log lines were lost", "lines": lines, "level": "warning"}
    return _json(_STAMP(None, "", line)) + b"\n"


def lines_lost() -> Iterator[Measure]:
    """Answer how many lines of this process could not be written."""
    if _sinks:
        yield Measure("log_lines_lost", _sinks[-1].lost)


def configure_logging(stream: BinaryIO | None = None, level: int = logging.INFO) -> None:
    """Send every line, ours and the libraries', to a stream (stderr) as JSON. Called once, at start."""
    sink = Sink(stream or sys.stderr.buffer, _gap)
    _sinks[:] = [sink]
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            _STAMP,
            _place_of_error,
            _bounded,
            structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", sink)),
        cache_logger_on_first_use=stream is None,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING, force=True)
