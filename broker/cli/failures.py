"""How an error becomes a sentence on stderr and an exit code; never a traceback, unless `BROKER_DEBUG` is set.

A traceback may hold what an error was about, so it is shown only to whoever asks for it.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from broker.cli.exits import Exit, exit_of
from broker.cli.output import talk
from broker.client.errors import BrokerProblem, ClientError, Misconfigured, Untrusted
from broker.errors import BrokerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_ADVICE = {"denied": "`broker ls` shows what you may reach"}
"""What to do now, where the service, which knows nothing of commands, does not say."""

_OPTIONS = {"reason": "--reason TEXT", "ticket": "--ticket ID"}
"""By what the service asks for: the options of the commands that ask it for access."""

EXTRA = "python -m pip install 'lightsail-credential-broker[server]'"


def explain(error: Exception, command: str) -> Exit:
    """Say on stderr what went wrong; answer the exit code."""
    if os.environ.get("BROKER_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, ClientError):
        return _client(error)
    if isinstance(error, BrokerError):
        return _own(error)
    return _local(error, command)


def _client(error: ClientError) -> Exit:
    match error:
        case BrokerProblem():
            return _problem(error)
        case Misconfigured():
            code = Exit.USAGE
        case Untrusted():
            code = Exit.MISMATCH
        case _:
            code = Exit.UNAVAILABLE
    talk(str(error))
    return code


def _problem(problem: BrokerProblem) -> Exit:
    talk(f"{problem.detail} ({problem.code or f'HTTP {problem.status}'})")
    _further("choose", ", ".join(problem.choices))
    _further("next", problem.next or _ADVICE.get(problem.code, ""))
    _further("add", _missing_options(problem))
    _further("AWS", problem.upstream_code)
    _further("wait", f"{problem.retry_after} s" if problem.retry_after is not None else "")
    _further("request", problem.request_id)
    return exit_of(problem.code, problem.status)


def _missing_options(problem: BrokerProblem) -> str:
    """Name the options for all that the service asks for: the first by its code, the others in its words."""
    if not problem.code.endswith("_required"):
        return ""
    asked = f"{problem.code} {problem.next}"
    return " ".join(option for what, option in _OPTIONS.items() if what in asked)


def _own(error: BrokerError) -> Exit:
    """Explain an error of the service's rooms, for commands that run them here; here its cause may be shown."""
    talk(error.cause or error.detail)
    _further("next", error.next_step)
    return exit_of(error.code)


def _local(error: Exception, command: str) -> Exit:
    """Explain what this machine or our own code brought about."""
    match error:
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] != "broker":
            talk(f"`broker {command}` needs the service's libraries, and {name} is missing: {EXTRA}")
        case OSError():
            talk(": ".join(str(part) for part in (error.filename, error.strerror or type(error).__name__) if part))
        case _ if problems := getattr(error, "problems", ()):  # SettingsError, whose module is too heavy to name here
            _settings(problems, getattr(error, "path", None))
        case _:
            talk(f"internal error: {_whereabouts(error)}; BROKER_DEBUG=1 shows more")
            return Exit.UNAVAILABLE
    return Exit.USAGE


def _settings(problems: Sequence[str], path: Path | None) -> None:
    """Name the file once: beside its only problem, or above them all."""
    if path is None or len(problems) == 1:
        for problem in problems:
            talk(f"{path}: {problem}" if path else problem)
        return
    talk(f"{path}: {len(problems)} problems")
    for problem in problems:
        talk(f"  {problem}")


def _further(label: str, text: str) -> None:
    if text:
        talk(f"  {label}: {text}")


def _whereabouts(error: Exception) -> str:
    """Name the class and the place, but not the text, which may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place
