from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from broker.audit.joining.files import Unreadable, lines, opened

TEXT = b"one\r\ntwo\n\nthree"


def read(path: Path) -> bytes:
    with opened(str(path)) as file:
        return file.read()


@pytest.mark.parametrize("content", [TEXT, b"", b"\x1f", b"\x1f\x8c rest"])
def test_a_file_is_read_as_it_is_or_unpacked_whatever_its_name(tmp_path: Path, content: bytes) -> None:
    for name, stored in (("plain", content), ("packed", gzip.compress(content)), ("x.gz", content)):
        (tmp_path / name).write_bytes(stored)
        assert read(tmp_path / name) == content


def test_packed_files_laid_end_to_end_are_one(tmp_path: Path) -> None:
    (tmp_path / "log.gz").write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert read(tmp_path / "log.gz") == b"one\ntwo\n"


def test_a_damaged_or_cut_gzip_is_unreadable(tmp_path: Path) -> None:
    whole = gzip.compress(bytes(range(256)) * 64)
    for damaged in (whole[:40], whole[:-4], whole[:30] + b"\xff" * 10 + whole[40:], b"\x1f\x8bnonsense"):
        (tmp_path / "log.gz").write_bytes(damaged)
        with pytest.raises(Unreadable, match=r"log\.gz: damaged gzip"):
            read(tmp_path / "log.gz")


def test_lines_have_no_ends() -> None:
    assert list(lines(io.BytesIO(TEXT))) == [b"one", b"two", b"", b"three"]


def test_the_end_of_a_long_line_is_left_out_and_is_no_line_of_its_own() -> None:
    file = io.BytesIO(b"0123456789abc\nAAAAAAAA\nlast")
    assert list(lines(file, limit=8)) == [b"01234567", b"AAAAAAAA", b"last"]
