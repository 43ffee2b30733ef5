"""A real clipboard of a real X server, and a table of the others."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator

import pytest

from broker.client import Misconfigured
from broker.client.clipboard import CLIPBOARDS, Clipboard, find, lent
from tests.real.freerdp import an_x_server

PASSWORD = "?8h2!kZ;=wQ_Tr4u"


@pytest.fixture
def board() -> Iterator[Clipboard]:
    with an_x_server() as display:
        xclip = CLIPBOARDS[1]
        on = ("env", f"DISPLAY={display}")
        yield Clipboard((*on, *xclip.writes), (*on, *xclip.reads))


def content(board: Clipboard) -> str:
    return subprocess.run(board.reads, capture_output=True, text=True, check=False).stdout


def nothing() -> None:
    """Somebody is told."""


@pytest.mark.real("xclip")
def test_a_password_is_there_and_goes_when_its_time_is_over(board: Clipboard) -> None:
    told = threading.Event()
    with lent(board, PASSWORD, 0.5, told.set) as done:
        assert content(board) == PASSWORD
        assert done.wait(20)
        assert content(board) == ""
    assert told.wait(20)


@pytest.mark.real("xclip")
def test_it_goes_when_the_client_ends_before_that(board: Clipboard) -> None:
    with lent(board, PASSWORD, 60, nothing):
        assert content(board) == PASSWORD
    assert content(board) == ""


@pytest.mark.real("xclip")
def test_it_goes_at_an_interrupt(board: Clipboard) -> None:
    with pytest.raises(KeyboardInterrupt), lent(board, PASSWORD, 60, nothing):
        raise KeyboardInterrupt
    assert content(board) == ""


@pytest.mark.real("xclip")
@pytest.mark.parametrize("seconds", [0.3, 60])
def test_what_somebody_copied_meanwhile_stays(seconds: float, board: Clipboard) -> None:
    with lent(board, PASSWORD, seconds, nothing) as done:
        board.write("a line of mine")
        done.wait(1 if seconds < 1 else 0)
    assert content(board) == "a line of mine"


@pytest.mark.real("xclip")
def test_no_process_that_holds_it_shows_it(board: Clipboard) -> None:
    with lent(board, PASSWORD, 60, nothing):
        shown = subprocess.run(["ps", "axeww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        assert "xclip -selection clipboard -in" in shown  # it is the one that holds the text
        assert PASSWORD not in shown


def test_a_clipboard_that_does_not_work_is_said_and_the_password_is_not() -> None:
    with (
        pytest.raises(Misconfigured, match="cannot be used") as said,
        lent(Clipboard(("false",), ("true",)), PASSWORD, 1, nothing),
    ):
        raise AssertionError
    assert PASSWORD not in str(said.value)


def test_one_that_does_not_answer_counts_as_ours() -> None:
    assert Clipboard(("true",), ("no-such-program",)).holds(b"")
    assert not Clipboard(("true",), ("false",)).holds(b"")  # such as one that holds a picture


@pytest.mark.parametrize(
    ("programs", "environment", "taken"),
    [
        ({"wl-copy", "wl-paste", "xclip"}, {"WAYLAND_DISPLAY": "w", "DISPLAY": ":0"}, "wl-copy"),
        ({"wl-copy", "wl-paste", "xclip"}, {"DISPLAY": ":0"}, "xclip"),
        ({"xsel"}, {"DISPLAY": ":0"}, "xsel"),
        ({"pbcopy", "pbpaste"}, {}, "pbcopy"),
        ({"clip.exe", "powershell.exe"}, {}, "clip.exe"),
    ],
)
def test_the_clipboard_of_the_desktop_is_found(programs: set[str], environment: dict[str, str], taken: str) -> None:
    def which(program: str) -> str | None:
        return program if program in programs else None

    assert find(which, environment).writes[0] == taken


def test_without_one_what_to_install_is_said() -> None:
    with pytest.raises(Misconfigured, match="wl-clipboard"):
        find(lambda _: None, {"DISPLAY": ":0", "WAYLAND_DISPLAY": "w"})
    with pytest.raises(Misconfigured, match="xclip"):
        find(shutil.which, {"PATH": os.environ["PATH"]})
