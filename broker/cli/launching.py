"""Starting an RDP client: the password gets to it by a pipe or the clipboard, and what it was given goes at the end."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager

from broker.cli import asking, children, output
from broker.client import Misconfigured
from broker.client.clipboard import lent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from broker.client.clipboard import Clipboard
    from broker.client.rdp.clients import Client
    from broker.client.rdp.plan import Plan
    from broker.client.rdp.session import Session

_TRANSLATING_SECONDS = 10


def launch(
    client: Client,
    program: str,
    session: Session,
    extras: Sequence[str],
    environment: Mapping[str, str],
    board: Clipboard | None = None,
    seconds: float = 0,
) -> int:
    """Run the client to its end; answer its exit code. A signal ends it so that clipboard and folder are cleared.

    Args:
        client: which.
        program: its path.
        session: where to and as whom.
        extras: arguments of the person, which the client admits.
        environment: what it inherits.
        board: the clipboard, for a client that is pasted into.
        seconds: how long the password is there at most.
    """
    with _folder() as folder:
        variables = dict(environment)
        reading, writing = os.pipe()
        try:
            plan = client.plan(program, session, extras, reading)
            if plan.isolated:
                variables["XDG_CONFIG_HOME"] = folder
            with os.fdopen(writing, "w", encoding="ascii") as pipe:
                pipe.write(plan.by_descriptor or plan.by_stdin)
            if board is None:
                return _run(plan, session, folder, variables, reading)
            return _pasted(plan, session, folder, variables, board, seconds)
        finally:
            os.close(reading)


def _pasted(
    plan: Plan, session: Session, folder: str, environment: dict[str, str], board: Clipboard, seconds: float
) -> int:
    with lent(board, session.password, seconds, _say_cleared) as done:
        output.talk(f"the password of {session.username} is on the clipboard for {seconds:g} s: paste it when asked")
        code = _run(plan, session, folder, environment, None)
        if plan.returns_at_once and code == 0:
            done.wait()  # what it handed over to may read the file, and the person paste, until then
        return code


def _say_cleared() -> None:
    output.talk("the password is no longer on the clipboard")


def _run(plan: Plan, session: Session, folder: str, environment: dict[str, str], reading: int | None) -> int:
    words = [*plan.words, *([_file(plan, session, folder)] if plan.reads_file else ()), *plan.extras]
    if plan.by_descriptor and reading is not None:
        return children.run(words, environment, stdin=subprocess.DEVNULL, pass_fds=(reading,))
    return children.run(words, environment, stdin=reading if plan.by_stdin else subprocess.DEVNULL)


def _file(plan: Plan, session: Session, folder: str) -> str:
    """Write the `.rdp` file, which holds no password; answer its path as the client knows it."""
    path = os.path.join(folder, "instance.rdp")  # noqa: PTH118  # as the folder's name comes
    with open(path, "x", encoding="ascii", newline="", opener=_for_us_alone) as file:
        file.write(session.rdp_file)
    return _for_windows(path) if plan.foreign else path


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _for_windows(path: str) -> str:
    """Name a file as programs of Windows do that are started from its Linux (WSL)."""
    try:
        shown = subprocess.run(  # noqa: S603  # a path of ours
            ["wslpath", "-w", path],  # noqa: S607  # of WSL, on PATH
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TRANSLATING_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Misconfigured("mstsc.exe works from WSL alone, and wslpath does not answer here") from error
    return shown.stdout.strip()


@contextmanager
def _folder() -> Iterator[str]:
    with children.removing() as folders:
        folders.append(asking.private_folder())
        yield folders[0]
