"""Taking the steps that a refusal asks for, as far as the person at the terminal can take them here and now.

A reason or a ticket is asked for; a stronger or fresher login is made, once. What somebody else has to do, and what
nobody can be asked for, stays the refusal that it is.
"""

from __future__ import annotations

import os
import re
import sys

from broker.cli.output import plain, talk
from broker.cli.service import service
from broker.client import BrokerProblem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeVar

    from broker.client import Broker
    from broker.client.documents import StepDocument
    from broker.client.purpose import Purpose

    T = TypeVar("T")

_TRIES = 3
_ROUNDS = 4
"""So many steps follow on one another at most: the service may ask for each thing once, and once more exactly."""
_TEXTS = {"reason": "why do you want in", "ticket": "which ticket is it"}
_LOGINS = {"mfa", "fresh_login"}


def step_by_step(attempt: Callable[[Broker], T], purpose: Purpose, *, may_ask: bool) -> T:
    """Ask the service; after a refusal that the person can lift, take the steps and ask again.

    Args:
        attempt: asks, for what `purpose` says by then.
        purpose: is given what the person answers.
        may_ask: whether the command line allows questions.

    Raises:
        ClientError: there is nothing to be had, or not without somebody else.
    """
    interactive = may_ask and _is_interactive(os.environ)
    can_log_in = not any(os.environ.get(name) for name in ("BROKER_TOKEN", "BROKER_TOKEN_FILE"))
    taken: set[str] = set()
    broker = service()
    try:
        for _ in range(_ROUNDS):
            try:
                return attempt(broker)
            except BrokerProblem as problem:
                if not interactive or not _can_be_lifted(problem, taken, can_log_in=can_log_in):
                    raise
                if _take(problem, purpose, taken):
                    broker.close()
                    broker = service()  # with the token of the new login
        return attempt(broker)
    finally:
        broker.close()


def _is_interactive(environment: Mapping[str, str]) -> bool:
    """Tell whether a person sits there who sees a question and can answer it."""
    return not environment.get("CI") and sys.stdin.isatty() and sys.stderr.isatty()


def _can_be_lifted(problem: BrokerProblem, taken: set[str], *, can_log_in: bool) -> bool:
    """Tell whether all steps can be taken here; one that was taken, and is asked for again, cannot."""
    wanted = {step.get("obligation", "") for step in problem.steps}
    possible = {*_TEXTS, *(_LOGINS if can_log_in else ())}
    if wanted & _LOGINS & taken:
        problem.next = (
            "you have just logged in again, and it is not enough: ask whoever runs the identity provider what kind of"
            f" login it can give{_asked_for(problem.steps)}"
        )
    return bool(wanted) and wanted <= possible - taken


def _asked_for(steps: Iterable[StepDocument]) -> str:
    values = [value for step in steps for value in step.get("acr_values", [])]
    return f" (acr {plain(' or '.join(values))})" if values else ""


def _take(problem: BrokerProblem, purpose: Purpose, taken: set[str]) -> bool:
    """Take every step that is asked for; tell whether one was a login."""
    logins = []
    for step in problem.steps:
        name = step.get("obligation", "")
        taken.add(name)
        if name in _LOGINS:
            logins.append(step)
        else:
            setattr(purpose, name, _answer(problem, name, step.get("pattern", "")))
    if logins:
        taken.update(_LOGINS)
        _log_in(problem, logins)
    return bool(logins)


def _log_in(problem: BrokerProblem, steps: Iterable[StepDocument]) -> None:
    from broker.cli.login import log_in_again

    talk(f"{problem.detail.rstrip('.')}: log in again")
    acr = " ".join(value for step in steps for value in step.get("acr_values", []))
    ages = [step["max_age"] for step in steps if "max_age" in step]
    # Where no kind of login is named, a new one is all that can be asked for.
    log_in_again(acr, min(ages) if ages else None if acr else 0)


def _answer(problem: BrokerProblem, name: str, pattern: str) -> str:
    """Ask for a text until it fits; whoever gives none is refused as if nobody had asked."""
    shape = f", such as {plain(pattern)}" if pattern else ""
    for _ in range(_TRIES):
        sys.stderr.write(f"broker: {_TEXTS[name]}{shape}? ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            sys.stderr.write("\n")
            break
        text = line.strip()
        if text and text.isprintable() and (not pattern or _fits(text, pattern)):
            return text
        talk(f"a {name} has to look like {plain(pattern)}" if pattern and text else f"a {name} is needed")
    raise problem


def _fits(text: str, pattern: str) -> bool:
    r"""Tell whether a text is what a policy's `like` takes: `*` is any text, and `\*` a star."""
    parts = (".*" if part == "*" else re.escape(part.replace("\\*", "*")) for part in re.split(r"(?<!\\)(\*)", pattern))
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None
