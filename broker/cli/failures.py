"""How an error becomes a sentence on stderr and an exit code; never a traceback, unless `BROKER_DEBUG` is set.

A traceback may hold what an error was about, so it is shown only to whoever asks for it.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from broker.cli import advice
from broker.cli.exits import Exit, exit_of
from broker.cli.output import advise, complain, talk
from broker.client.errors import (
    BrokerProblem,
    ClientError,
    LoginRefused,
    Misconfigured,
    NotLoggedIn,
    NotReady,
    Untrusted,
)
from broker.errors import BrokerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LONG = 120
"""Seconds from which on one rather counts minutes."""

EXTRA = "python -m pip install 'lightsail-credential-broker[server]'"


def explain(error: Exception, command: str, words: Sequence[str] = ()) -> Exit:
    """Say on stderr what went wrong, why, and what to do now; answer the exit code.

    `words` are those of the command line, so that it can be shown as it would succeed.
    """
    if os.environ.get("BROKER_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, ClientError):
        return _client(error, words)
    if isinstance(error, BrokerError):
        return _own(error)
    return _local(error, command)


def _client(error: ClientError, words: Sequence[str]) -> Exit:
    match error:
        case BrokerProblem():
            return _problem(error, words)
        case Misconfigured():
            code = Exit.USAGE
        case Untrusted():
            code = Exit.MISMATCH
        case NotReady():
            code = Exit.NOT_READY
        case NotLoggedIn() | LoginRefused():
            code = Exit.DENIED
        case _:
            code = Exit.UNAVAILABLE
    complain(str(error))
    _further("next", advice.sentence(error, words))
    _further("type", advice.command(error, words))
    return code


def _problem(problem: BrokerProblem, words: Sequence[str]) -> Exit:
    complain(f"{problem.detail} ({problem.code or f'HTTP {problem.status}'})")
    _further("choose", ", ".join(problem.choices))
    _further("next", advice.sentence(problem, words))
    _further("type", advice.command(problem, words))
    _further("AWS", problem.upstream_code)
    _further("wait", _span(problem.retry_after))
    _further("request", problem.request_id)
    return exit_of(problem.code, problem.status)


def _span(seconds: int | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds} s" if seconds < _LONG else f"{-(-seconds // 60)} min"


def _own(error: BrokerError) -> Exit:
    """Explain an error of the service's rooms, for commands that run them here; here its cause may be shown."""
    complain(error.cause or error.detail)
    _further("next", error.next_step)
    return exit_of(error.code)


def _local(error: Exception, command: str) -> Exit:
    """Explain what this machine or our own code brought about."""
    match error:
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] != "broker":
            complain(f"`broker {command}` needs the service's libraries, and {name} is missing: {EXTRA}")
        case OSError():
            complain(": ".join(str(part) for part in (error.filename, error.strerror or type(error).__name__) if part))
        case _ if problems := getattr(error, "problems", ()):  # SettingsError, whose module is too heavy to name here
            _settings(problems, getattr(error, "path", None))
        case _:
            complain(f"internal error: {_whereabouts(error)}; BROKER_DEBUG=1 shows more")
            return Exit.UNAVAILABLE
    return Exit.USAGE


def _settings(problems: Sequence[str], path: Path | None) -> None:
    """Name the file once: beside its only problem, or above them all."""
    if path is None or len(problems) == 1:
        for problem in problems:
            complain(f"{path}: {problem}" if path else problem)
        return
    complain(f"{path}: {len(problems)} problems")
    for problem in problems:
        talk(f"  {problem}")


def _further(label: str, text: str) -> None:
    if text:
        if label == "type":  # in one piece, to be copied
            talk(f"  {label}: {text}")
        else:
            advise(label, text)


def _whereabouts(error: Exception) -> str:
    """Name the class and the place, but not the text, which may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place
