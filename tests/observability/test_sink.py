"""Where log lines go: nobody waits for whoever reads them, and what is lost is counted."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from broker.observability.sink import Sink


def gap(lines: int) -> bytes:
    return b"lost %d\n" % lines


def everything(end: int) -> bytes:
    text = b""
    while part := os.read(end, 1 << 16):
        text += part
    return text


def test_lines_reach_a_pipe_in_their_order_and_whole_however_long() -> None:
    end, other_end = os.pipe()
    lines = [b"%d %s\n" % (number, b"x" * (number * 97 % 9000)) for number in range(200)]
    with os.fdopen(end, "rb") as reading, os.fdopen(other_end, "wb") as writing:
        found: list[bytes] = []
        thread = threading.Thread(target=lambda: found.extend(reading))
        thread.start()
        sink = Sink(writing, gap)
        for line in lines:
            sink.write(line)
        while sink._writer is not None:  # noqa: SLF001 - the thread that writes what the pipe did not take at once
            sink._writer.join(5)  # noqa: SLF001 - same
        writing.close()
        thread.join()
    assert found == lines
    assert sink.lost == 0


def test_what_nobody_reads_is_kept_up_to_a_bound_and_the_rest_is_counted() -> None:
    end, other_end = os.pipe()
    line = b"x" * 999 + b"\n"
    with os.fdopen(other_end, "wb") as writing:
        sink = Sink(writing, gap)
        for _ in range(3000):
            sink.write(line)
        assert 1500 < sink.lost < 2500
        lost = sink.lost
        reading = threading.Thread(target=lambda: found.append(everything(end)))
        found: list[bytes] = []
        reading.start()
        while (writer := sink._writer) is not None:  # noqa: SLF001 - as above
            writer.join(5)
        sink.write(b"later\n")
    reading.join()
    os.close(end)
    assert found[0].splitlines(keepends=True) == [line] * (3000 - lost) + [b"lost %d\n" % lost, b"later\n"]


def test_a_closed_pipe_and_a_full_disk_cost_lines_and_nothing_else() -> None:
    end, other_end = os.pipe()
    os.close(end)
    with os.fdopen(other_end, "wb") as writing:
        sink = Sink(writing, gap)
        sink.write(b"a line\n")
        assert sink.lost == 1
    with Path("/dev/full").open("wb", buffering=0) as full:
        sink = Sink(full, gap)
        sink.write(b"a line\n")
        assert sink.lost == 1


@pytest.mark.parametrize("count", [1, 100])
def test_a_file_has_every_line(tmp_path: Path, count: int) -> None:
    with (tmp_path / "log").open("wb") as file:
        sink = Sink(file, gap)
        for number in range(count):
            sink.write(b"%d\n" % number)
        assert (tmp_path / "log").read_bytes().split() == [b"%d" % number for number in range(count)]
