"""The operators' log: one JSON line whatever comes in, and nothing in it that was not meant for it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
import structlog

from broker.observability import catch_what_no_task_catches, configure_logging

CANARY = "S3cret-Admin-Pw!"
DIRTY = {
    "a line break": "a\nb",
    "a carriage return": "a\rb",
    "an escape": "\x1b[2J\x1b]0;title\x07",
    "a line separator": "a\u2028b\u2029c\u0085d",
    "a change of direction": "a\u202egnp.exe",
    "a lone surrogate": "a\ud800b",
    "NUL": "a\x00b",
    "a megabyte": "x" * 1_000_000,
    "a megabyte outside ASCII": "ü" * 1_000_000,
    "a format": "%s %d {0} {name}",
}


@pytest.fixture
def log() -> Iterator[BytesIO]:
    stream = BytesIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    configure_logging(stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def the_line(log: BytesIO) -> dict[str, Any]:
    """Read the one line that was written, as strictly as can be."""
    text = log.getvalue()
    assert text.endswith(b"\n")
    assert text.isascii()
    assert len(text.decode().splitlines()) == 1
    assert len(text) < 40_000
    found: dict[str, Any] = json.loads(text)
    json.dumps(found, ensure_ascii=False).encode("utf-8")  # no lone surrogate is left in it
    return found


def library_says(message: str, *arguments: object) -> None:
    """Hand a record to our handler alone: pytest's own, which stand beside it, do not take everything."""
    record = logging.LogRecord("some.library", logging.WARNING, "here", 1, message, arguments, None)
    ours = [
        handler for handler in logging.getLogger().handlers if type(handler).__module__ == "broker.observability.logs"
    ]
    ours[0].handle(record)


@pytest.mark.parametrize("text", DIRTY.values(), ids=DIRTY.keys())
def test_whatever_is_in_a_value_it_is_one_line(log: BytesIO, text: str) -> None:
    structlog.get_logger("test").info("event", value=text, values=[text], deeper=[[text]])
    assert the_line(log)["event"] == "event"


@pytest.mark.parametrize("text", DIRTY.values(), ids=DIRTY.keys())
def test_whatever_a_library_says_it_is_one_line(log: BytesIO, text: str) -> None:
    library_says(text)
    line = the_line(log)
    assert (line["logger"], line["level"]) == ("some.library", "warning")
    assert text[:1] in {line["message"][:1], "\x1b"}


@pytest.mark.parametrize("value", [b"\xff\xfe", 1 << 80, {1: object()}, object(), {"a"}, 1 + 2j], ids=type)
def test_what_is_no_plain_value_is_named_by_its_type(log: BytesIO, value: object) -> None:
    structlog.get_logger("test").info("event", value=value)
    assert the_line(log)["value"] in {"a large integer", type(value).__name__}


def test_a_list_is_cut_like_a_text(log: BytesIO) -> None:
    structlog.get_logger("test").info("event", values=list(range(100_000)))
    assert len(the_line(log)["values"]) == 50


def fail_with(secret: str) -> None:
    held = secret.upper()
    raise ValueError(f"could not use {held} {secret}")


def test_of_an_exception_there_is_kind_and_place_but_no_text_and_no_local(log: BytesIO) -> None:
    try:
        fail_with(CANARY)
    except ValueError:
        structlog.get_logger("test").exception("failed")
    line = the_line(log)
    assert line["error"] == "ValueError"
    assert line["frames"][-1].endswith(" fail_with")
    assert CANARY.lower() not in log.getvalue().decode().lower()


def test_of_a_library_s_exception_there_is_its_kind_alone(log: BytesIO) -> None:
    try:
        fail_with(CANARY)
    except ValueError:
        logging.getLogger("some.library").exception("Error handling request")
    assert the_line(log)["error"] == "ValueError"
    assert CANARY.lower() not in log.getvalue().decode().lower()


@pytest.mark.parametrize("level", [logging.WARNING, 35, logging.CRITICAL, 55, 1000])
def test_a_library_may_use_a_level_of_its_own(log: BytesIO, level: int) -> None:
    logging.getLogger("some.library").log(level, "hello")
    assert the_line(log)["level"] in {"warning", "critical"}


def test_a_library_s_broken_format_is_shown_as_it_stands(log: BytesIO) -> None:
    library_says("%d of %s", "one")
    assert the_line(log)["message"] == "%d of %s"


def test_the_chatter_of_libraries_is_left_out(log: BytesIO) -> None:
    logging.getLogger("some.library").info("connected")
    assert log.getvalue() == b""


def test_a_task_that_nobody_awaits_does_not_tell_what_it_failed_with(log: BytesIO) -> None:
    async def main() -> None:
        async def fail() -> None:
            fail_with(CANARY)

        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    asyncio.run(main())
    assert the_line(log)["message"] == "Task exception was never retrieved"
    assert CANARY.lower() not in log.getvalue().decode().lower()


async def test_what_a_callback_was_called_with_is_not_told(log: BytesIO) -> None:
    loop = asyncio.get_running_loop()
    catch_what_no_task_catches(loop)
    loop.call_soon(fail_with, CANARY)
    loop.add_signal_handler(signal.SIGUSR1, fail_with, CANARY)
    signal.raise_signal(signal.SIGUSR1)
    await asyncio.sleep(0.05)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["where"], line["error"]) for line in lines] == [("event loop", "ValueError")] * 2
    assert all(line["frames"][-1].endswith(" fail_with") for line in lines)
    assert CANARY.lower() not in log.getvalue().decode().lower()


UNCAUGHT = """
import threading
from broker.observability import catch_what_nobody_catches, configure_logging

class Finalizer:
    def __del__(self):
        raise ValueError("S3cret-Admin-Pw!")

def fail():
    raise KeyError("S3cret-Admin-Pw!")

configure_logging()
catch_what_nobody_catches()
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Finalizer()
"""


def test_threads_and_finalizers_that_fail_leave_a_line_and_no_traceback() -> None:
    ran = subprocess.run([sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, check=False, timeout=30)
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [(line["where"], line["error"]) for line in lines] == [("thread", "KeyError"), ("finalizer", "ValueError")]
    assert [line["frames"][-1].rpartition(" ")[2] for line in lines] == ["fail", "__del__"]
    assert CANARY not in ran.stderr


class FullDisk(BytesIO):
    def write(self, data: object) -> int:
        raise OSError(28, f"No space left on device for {data!r}")


def test_a_full_disk_stops_nobody() -> None:
    configure_logging(FullDisk())
    structlog.get_logger("test").info("event")
    logging.getLogger("some.library").warning("hello")
    structlog.reset_defaults()


def test_threads_do_not_mix_their_lines(log: BytesIO) -> None:
    def talk() -> None:
        for number in range(200):
            structlog.get_logger("test").info("event", number=number, text="x" * 500)

    threads = [threading.Thread(target=talk) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = log.getvalue().splitlines()
    assert len(lines) == 800
    assert all(json.loads(line)["event"] == "event" for line in lines)
