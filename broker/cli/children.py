"""Running another program in our place: it has the terminal, its exit code is ours, and what was for it alone goes."""

from __future__ import annotations

import shutil
import signal
import subprocess
from contextlib import contextmanager

from broker.client import Misconfigured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

BY_SIGNAL = 128
"""A shell reports a program that a signal ended as this and the signal's number."""

_FROM_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
"""The terminal sends these to the child as well; what they mean is for the child to say."""

_FOR_US_ALONE = (signal.SIGTERM, signal.SIGHUP)
"""Nobody sends these to the child unless we do."""


def run(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    stdin: int | None = None,
    pass_fds: Sequence[int] = (),
) -> int:
    """Run a program to its end; answer its exit code, or 128 and the signal that ended it.

    Args:
        command: the program and its arguments.
        environment: its variables; ours when None.
        stdin: a descriptor that it reads; ours when None.
        pass_fds: further descriptors that it inherits, under their numbers.

    Raises:
        Misconfigured: there is no such program, or it cannot be run.
    """
    with _passing_signals() as child:
        try:
            process = subprocess.Popen(command, env=environment, stdin=stdin, pass_fds=pass_fds)  # noqa: S603 - running what the person typed is the purpose
        except OSError as error:
            raise Misconfigured(f"{command[0]} cannot be run: {error.strerror}") from error
        except ValueError as error:
            raise Misconfigured(f"{command[0]} cannot be run with these arguments: {error}") from error
        child.is_there(process)
        code = process.wait()
    return BY_SIGNAL - code if code < 0 else code


@contextmanager
def removing() -> Iterator[list[str]]:
    """Remove the folders that are put into a list, whatever ends us: no signal cuts that short."""
    folders: list[str] = []
    ending = False

    def end(number: int, _: FrameType | None) -> None:
        nonlocal ending
        if not ending:
            ending = True
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(BY_SIGNAL + number)

    wanted = (signal.SIGINT, *_FOR_US_ALONE)
    before = {number: signal.getsignal(number) for number in wanted}
    try:
        try:
            for number in wanted:
                if before[number] is not signal.SIG_IGN:
                    signal.signal(number, end)
            yield folders
        finally:
            ending = True
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        for number, earlier in before.items():
            signal.signal(number, earlier)


class _Child:
    """The child, and the signals that came for it before it was there."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def is_there(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def pass_on(self, number: int, _: FrameType | None) -> None:
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)


@contextmanager
def _passing_signals() -> Iterator[_Child]:
    """Outlive the signals that are the child's, and hand it those that only we are sent."""
    child = _Child()

    def outlive(*_: object) -> None:
        """Do nothing; unlike SIG_IGN this is not inherited by the child."""

    wanted = dict.fromkeys(_FROM_THE_TERMINAL, outlive) | dict.fromkeys(_FOR_US_ALONE, child.pass_on)
    before = {number: signal.getsignal(number) for number in wanted}
    for number, handler in wanted.items():
        if before[number] is not signal.SIG_IGN:  # `nohup` asked for it, for the child too
            signal.signal(number, handler)
    try:
        yield child
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
