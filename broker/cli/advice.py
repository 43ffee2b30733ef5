"""What to do about an error: a sentence where the service has none, and the very command to type."""

from __future__ import annotations

import os
import shlex

from broker.client.credentials import FixedToken
from broker.client.errors import BrokerProblem, Misconfigured, NotLoggedIn, NotReady, Unreachable, Untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.client.errors import ClientError

_TELL = "nothing was issued; tell whoever runs the service, whose /readyz names the cause"

_SENTENCES = {
    "denied": "`broker ls` shows what you may reach",
    "step_up_required": "log in anew, with a second factor",
    "approval_required": "somebody else has to approve it first",
    "ambiguous_instance": "say which one, by its full name",
    "instance_not_running": "start it in Lightsail, or ask who may",
    "password_not_ready": "a new Windows instance makes its password within some minutes",
    "host_key_changed": "do not connect before you know why",
    "protocol_not_supported": "Windows is opened by rdp, everything else by ssh: leave --protocol out",
    "key_not_held": "ask an operator to put the private key of the instance's key pair into custody: `broker keys add`",
    "password_undecryptable": "ask an operator, to whom `broker keys coverage` shows which key is another one at AWS",
    "rate_limited": "ask again when that time is over",
    "budget_exhausted": "wait, or ask an operator to raise limits.instances_per_caller_per_hour",
    "upstream_error": "AWS itself refused: give an operator AWS's code and the request id",
    "upstream_unavailable": "try again in a minute",
    "overloaded": "try again in a few seconds",
    "audit_unavailable": _TELL,
    "policies_unavailable": _TELL,
    "keys_unavailable": _TELL,
    "not_found": "is BROKER_URL the address of a broker, and is the broker as new as this command?",
}
"""By the code of a problem: what to do now, where the service, which knows nothing of commands, does not say."""

_OPTIONS = {"reason": ("--reason", "TEXT"), "ticket": ("--ticket", "ID")}
"""By what the service asks for: the options of the commands that ask it for access."""

_LOGIN = "broker login"
_LOGIN_INSTEAD = "unset BROKER_TOKEN BROKER_TOKEN_FILE; broker login"
"""What the environment holds would go before the login."""
_GIVEN = FixedToken.remedy
"""What the client advises when the environment holds the token; a workload has a remedy of its own."""

_WAITING = {"get", "exec", "ssh", "rdp"}
_WAITED_FOR = {"password_not_ready", "instance_not_running", "upstream_unavailable", "overloaded"}
_LOOKED_AT = {"audit_unavailable", "policies_unavailable", "keys_unavailable"}


def sentence(error: ClientError) -> str:
    """Say what to do now; empty when the error's own text says it all."""
    if isinstance(error, BrokerProblem):
        return error.next or _SENTENCES.get(error.code, "" if error.code else _unfamiliar())
    if isinstance(error, Unreachable):
        return "is BROKER_URL right, and does the service run?"
    if isinstance(error, Untrusted):
        return "ask whoever runs the service which authority its certificate is from" if _is_about_tls(error) else ""
    return ""


def command(error: ClientError, words: Sequence[str]) -> str:
    """Answer what to type now; empty when no command helps. `words` are those of the command that failed."""
    if isinstance(error, BrokerProblem):
        return _by_options(error, words) or _by_code(error, words)
    if isinstance(error, NotReady) and words and words[0] in _WAITING:
        return _again(words, "--wait", "10m")
    return _by_kind(error)


def _by_kind(error: ClientError) -> str:
    match error:
        case Unreachable():
            return _look()
        case Untrusted() if _is_about_tls(error):
            return "export BROKER_CA_FILE=/path/to/authority.pem"
        case Misconfigured() if "BROKER_URL is not set" in str(error):
            return f"{_LOGIN} https://broker.example.com"
        case Misconfigured() if "access token" in str(error):
            return _LOGIN_INSTEAD
        case NotLoggedIn():
            return _LOGIN
    return ""


def _by_options(problem: BrokerProblem, words: Sequence[str]) -> str:
    """Write the command down with what it lacks: options, the full name of the instance, or patience."""
    waits = problem.code in _WAITED_FOR and problem.retry_after is not None and words and words[0] in _WAITING
    more = ["--wait", "10m"] if waits else _missing_options(problem)
    if problem.choices and problem.code == "ambiguous_instance":
        full = [problem.choices[0] if word == _instance(words) else word for word in words]
        return shlex.join(["broker", *full])
    if not more or not words:
        return ""
    first = _LOGIN if problem.code == "step_up_required" else ""
    return " && ".join(part for part in (first, _again(words, *more)) if part)


def _by_code(problem: BrokerProblem, words: Sequence[str]) -> str:
    """Answer another command that brings one further."""
    code, instance = problem.code, _instance(words)
    if code == "invalid_token":
        return _LOGIN if _LOGIN in problem.next else _LOGIN_INSTEAD if _GIVEN in problem.next else ""
    if code == "step_up_required":
        return _LOGIN
    if code == "approval_required" and instance and _exists("request"):
        return shlex.join(["broker", "request", "create", instance])
    if code == "host_key_changed" and instance:
        return shlex.join(["broker", "hosts", "show", instance])
    return _look() if code in _LOOKED_AT else ""


def _missing_options(problem: BrokerProblem) -> list[str]:
    """Name the options for all that the service asks for: the first by its code, the others in its words."""
    asked = f"{problem.code} {problem.next}" if problem.code.endswith("_required") else ""
    return [word for what, option in _OPTIONS.items() if what in asked for word in option]


def _again(words: Sequence[str], *more: str) -> str:
    """Write the command down anew, with more options: what stands behind `--` belongs to another program."""
    end = words.index("--") if "--" in words else len(words)
    own = list(words[:end])
    if more[0] in own:  # --wait that was too short
        place = own.index(more[0])
        del own[place : place + 2]
    return shlex.join(["broker", *own, *more, *words[end:]])


def _instance(words: Sequence[str]) -> str:
    """Answer the first argument of a command that takes an instance."""
    return next((word for word in words[1:] if not word.startswith("-") and word not in {"show", "accept"}), "")


def _look() -> str:
    trust = ' --cacert "$BROKER_CA_FILE"' if os.environ.get("BROKER_CA_FILE") else ""
    return f'curl -sS{trust} "$BROKER_URL/readyz"' if os.environ.get("BROKER_URL") else ""


def _exists(name: str) -> bool:
    from broker.cli.main import COMMANDS

    return name in COMMANDS


def _is_about_tls(error: ClientError) -> bool:
    return type(error.__cause__).__name__ == "SSLCertVerificationError"


def _unfamiliar() -> str:
    return "this is no broker's answer: is BROKER_URL right, or does a proxy stand in between?"
