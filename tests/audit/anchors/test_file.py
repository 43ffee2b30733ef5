"""A file as an anchor: nothing of what it holds is lost, whatever the disk does, and nothing waits for it."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.anchors.file import FileAnchor
from broker.audit.anchors.notes import MARK, line_of, notes_in
from broker.audit.anchors.places import AnchorFailed
from broker.audit.checkpoints import Signer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "anchor.notes"


def note(signer: Signer, size: int) -> str:
    return signer.sign(size, bytes([size % 256]) * 32)


async def filled(file: Path, signer: Signer, *sizes: int) -> FileAnchor:
    anchor, after = FileAnchor(file), 0
    for size in sizes:
        await anchor.add(size, note(signer, size), after)
        after = size
    return anchor


async def test_notes_stand_one_after_the_other_for_everybody_to_read(file: Path, signer: Signer) -> None:
    await filled(file, signer, 1, 5, 9)
    assert file.read_text() == "".join(f"{note(signer, size)}\n" for size in (1, 5, 9))  # noqa: ASYNC240 - small
    assert file.stat().st_mode & 0o777 == 0o600  # noqa: ASYNC240 - small


async def test_the_newest_note_is_the_one_of_the_greatest_size(file: Path, signer: Signer) -> None:
    assert await FileAnchor(file).newest() is None
    await filled(file, signer, 1, 5, 9)
    file.write_text(file.read_text() + note(signer, 2) + "\n")  # noqa: ASYNC240 - small
    assert await FileAnchor(file).newest() == note(signer, 9)


async def test_a_note_that_is_there_already_is_not_written_again(file: Path, signer: Signer) -> None:
    anchor = await filled(file, signer, 1, 5)
    before = content(file)
    await anchor.add(5, note(signer, 5), 1)
    assert content(file) == before


def content(file: Path) -> bytes:
    return file.read_bytes()


def write(file: Path, data: bytes) -> None:
    file.write_bytes(data)


@given(cut=st.integers(min_value=0, max_value=10_000), next_size=st.sampled_from([7, 8]))
def test_a_note_that_a_crash_cut_anywhere_is_completed_and_no_other_one_is_lost(
    tmp_path_factory: pytest.TempPathFactory, signer: Signer, cut: int, next_size: int
) -> None:
    async def scene() -> None:
        file = tmp_path_factory.mktemp("cut") / "anchor.notes"
        await filled(file, signer, 3)
        whole = len(content(file))
        payload = f"{note(signer, 7)}\n".encode()
        write(file, content(file) + payload[: cut % (len(payload) + 1)])
        torn = content(file)
        assert (await FileAnchor(file).newest()) in {note(signer, 3), note(signer, 7)}
        await FileAnchor(file).add(next_size, note(signer, next_size), 3)
        assert content(file).startswith(torn)  # an append-only file can be completed, and nothing else
        found = list(notes_in(content(file).decode(errors="replace")))
        assert (found[0], found[-1]) == (note(signer, 3), note(signer, next_size))
        if next_size == 7:
            assert content(file)[whole:] == payload
        assert await FileAnchor(file).newest() == note(signer, next_size)

    asyncio.run(scene())


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


async def test_a_disk_that_is_full_in_the_middle_of_a_note_is_told_and_made_good(file: Path, signer: Signer) -> None:
    anchor = await filled(file, signer, 1)
    whole = len(content(file))
    with room_for(whole + 50), pytest.raises(OSError, match="too large") as told:
        await anchor.add(2, note(signer, 2), 1)
    assert told.value.errno == errno.EFBIG
    assert len(content(file)) == whole + 50
    assert await anchor.newest() == note(signer, 1)
    await anchor.add(2, note(signer, 2), 1)
    assert content(file).decode() == f"{note(signer, 1)}\n{note(signer, 2)}\n"


async def test_a_file_that_was_removed_is_missed(file: Path, signer: Signer) -> None:
    anchor = await filled(file, signer, 1)
    file.unlink()  # noqa: ASYNC240 - small
    with pytest.raises(AnchorFailed, match="the file is gone"):
        await anchor.add(2, note(signer, 2), 1)
    write(file, b"")  # the operator knows
    file.chmod(0o600)  # noqa: ASYNC240 - small
    await anchor.add(2, note(signer, 2), 1)
    assert await anchor.newest() == note(signer, 2)


async def test_a_folder_that_is_not_there_is_no_empty_anchor(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await FileAnchor(tmp_path / "not-mounted" / "anchor.notes").newest()


@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo", "open to others", "folder"])
async def test_what_is_no_plain_file_of_ours_is_refused(file: Path, signer: Signer, kind: str) -> None:
    other = file.with_name("other")
    make_strange(file, other, kind)
    with pytest.raises((AnchorFailed, OSError)):
        await FileAnchor(file).add(1, note(signer, 1), 0)
    with pytest.raises((AnchorFailed, OSError)):
        await FileAnchor(file).newest()
    assert not other.exists() or not content(other)


def make_strange(file: Path, other: Path, kind: str) -> None:
    match kind:
        case "symlink":
            other.touch()
            file.symlink_to(other)
        case "hard link":
            other.touch()
            file.hardlink_to(other)
        case "fifo":
            os.mkfifo(file)
        case "open to others":
            file.touch()
            file.chmod(0o666)
        case _:
            file.mkdir()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal", ".lock"])
async def test_the_log_is_not_its_own_anchor(tmp_path: Path, signer: Signer, suffix: str) -> None:
    database = tmp_path / "audit.db"
    with pytest.raises(AnchorFailed, match="the audit log itself"):
        await FileAnchor(tmp_path / f"audit.db{suffix}", database).add(1, note(signer, 1), 0)


async def test_junk_without_any_note_is_no_empty_anchor(file: Path) -> None:
    write(file, b"x" * 100_000)
    with pytest.raises(AnchorFailed, match="no checkpoint in the file"):
        await FileAnchor(file).newest()


def test_it_tells_whether_it_shares_the_disk_of_the_log(tmp_path: Path) -> None:
    assert FileAnchor(tmp_path / "anchor.notes").shares_the_disk_of(tmp_path / "audit.db")
    assert not FileAnchor(Path("/proc/anchor.notes")).shares_the_disk_of(tmp_path / "audit.db")


async def test_whoever_can_only_append_cannot_hide_the_newest_note(file: Path, signer: Signer) -> None:
    await filled(file, signer, 3, 9)
    older = f"{note(signer, 3)}\n".encode()
    for pile in (older * 9000, line_of(note(signer, 3)).encode() + b"\n", MARK.encode(), b"x" * 2_000_000):
        write(file, content(file) + pile)
        assert await FileAnchor(file).newest() == note(signer, 9)


async def test_a_note_that_claims_more_does_not_keep_others_from_being_written(file: Path, signer: Signer) -> None:
    anchor = await filled(file, signer, 3)
    strange = Signer("other.example/audit", Ed25519PrivateKey.generate())
    write(file, content(file) + f"{note(strange, 10**15)}\n".encode())
    await anchor.add(4, note(signer, 4), 3)
    assert content(file).decode().endswith(f"\n\n{note(signer, 4)}\n")
    assert await anchor.newest() == note(strange, 10**15)


async def test_a_note_is_found_wherever_a_large_file_is_cut_for_reading(file: Path, signer: Signer) -> None:
    for before in range(1024 * 1024 - 400, 1024 * 1024 + 40, 20):
        write(file, b"x" * before + f"\n\n{note(signer, 7)}\n".encode() + b"x" * 100)
        assert await FileAnchor(file).newest() == note(signer, 7)
