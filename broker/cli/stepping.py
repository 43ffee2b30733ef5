"""Taking the steps that a refusal asks for, as far as the person at the terminal can take them here and now.

A reason or a ticket is asked for; a stronger or fresher login is made, once. What somebody else has to do, and what
nobody can be asked for, stays the refusal that it is.
"""

from __future__ import annotations

import os
import sys

from broker.cli.output import plain, talk
from broker.cli.service import service
from broker.client import BrokerProblem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
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
    given = next((name for name in ("BROKER_TOKEN", "BROKER_TOKEN_FILE") if os.environ.get(name)), "")
    taken: set[str] = set()
    broker = service()
    try:
        for _ in range(_ROUNDS):
            try:
                return attempt(broker)
            except BrokerProblem as problem:
                if not _can_be_lifted(problem, taken, given) or not interactive:
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


def _can_be_lifted(problem: BrokerProblem, taken: set[str], given: str) -> bool:
    """Tell whether all steps can be taken here; one that was taken, and is asked for again, cannot.

    Nor is anybody logged in whose token was `given` by a variable: it goes before a login.
    """
    wanted = {step.get("obligation", "") for step in problem.steps}
    if wanted & _LOGINS & taken:
        problem.next = _not_enough(problem.steps)
    elif wanted & _LOGINS and given:
        problem.next = f"{problem.next or problem.detail} {given} holds the token: renew it there, or unset {given}."
    return bool(wanted) and wanted <= {*_TEXTS, *(() if given else _LOGINS)} - taken


def _not_enough(steps: Sequence[StepDocument]) -> str:
    """Say what the identity provider does not do though it was asked."""
    acr, max_age = _login_asked_for(steps)
    kind = f"acr {plain(acr.replace(' ', ' or '))}" if acr else ""
    age = f"auth_time at most {max_age} s ago" if max_age is not None else ""
    needed = (
        " and ".join(filter(None, (kind, age))) or "a second factor (amr, acr) and the time of the login (auth_time)"
    )
    return (
        "you have just logged in again, and it is not enough: ask whoever runs the identity provider; its access token"
        f" has to say {needed}"
    )


def _login_asked_for(steps: Sequence[StepDocument]) -> tuple[str, int | None]:
    """Answer `acr_values` and `max_age` (RFC 9470) of all steps together."""
    acr = " ".join(value for step in steps for value in step.get("acr_values", []))
    ages = [step["max_age"] for step in steps if "max_age" in step]
    return acr, min(ages) if ages else None


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


def _log_in(problem: BrokerProblem, steps: Sequence[StepDocument]) -> None:
    from broker.cli.login import log_in_again

    talk(f"{problem.detail.rstrip('.')}: log in again")
    acr, max_age = _login_asked_for(steps)
    aged = any(step.get("obligation") == "fresh_login" for step in steps)
    # Where nothing exact is told, a new login is all that can be asked for; its token then tells when it was.
    log_in_again(acr, 0 if max_age is None and (aged or not acr) else max_age)


def _answer(problem: BrokerProblem, name: str, pattern: str) -> str:
    """Ask for a text until it fits, three times; whoever gives none is refused as if nobody had asked."""
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
    r"""Tell whether a text is what a policy's `like` takes: `*` is any text, and `\\*` a star.

    Part after part and never back, so that no pattern of a strange service takes long.
    """
    first, *others = (part.replace("\0", "*") for part in pattern.replace("\\*", "\0").split("*"))
    if not others:
        return text == first
    *between, last = others
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in between:
        at = text.find(part, at, end) + len(part)
        if at < len(part):
            return False
    return True
