"""Running another program in our place: it has the terminal, its exit code is ours, and what was for it alone goes."""

from __future__ import annotations

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
    with _passing_signals() as children:
        try:
            child = subprocess.Popen(command, env=environment, stdin=stdin, pass_fds=pass_fds)  # noqa: S603 - running what the person typed is the purpose
        except OSError as error:
            raise Misconfigured(f"{command[0]} cannot be run: {error.strerror}") from error
        except ValueError as error:
            raise Misconfigured(f"{command[0]} cannot be run with these arguments: {error}") from error
        children.append(child)
        code = child.wait()
    return BY_SIGNAL - code if code < 0 else code


@contextmanager
def _passing_signals() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Outlive the signals that are the child's, and hand it those that only we are sent."""
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        for child in children:
            child.send_signal(number)

    def outlive(*_: object) -> None:
        """Do nothing; unlike SIG_IGN this is not inherited by the child."""

    wanted = dict.fromkeys(_FROM_THE_TERMINAL, outlive) | dict.fromkeys(_FOR_US_ALONE, pass_on)
    before = {number: signal.getsignal(number) for number in wanted}
    for number, handler in wanted.items():
        if before[number] is not signal.SIG_IGN:  # `nohup` asked for it, for the child too
            signal.signal(number, handler)
    try:
        yield children
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
