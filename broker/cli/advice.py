"""What to do about an error: a sentence where the service has none, and the very command to type."""

from __future__ import annotations

import shlex

from broker.cli.whereabouts import location
from broker.client.errors import (
    BrokerProblem,
    Misconfigured,
    NotLoggedIn,
    NotReady,
    ProviderFault,
    Unreachable,
    Untrusted,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.client.errors import ClientError

_TELL = "nothing was issued; tell whoever runs the service, whose /readyz names the cause"

_SENTENCES = {
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
    "budget_exhausted": "wait, or ask an operator for a larger budget",
    "upstream_error": "AWS itself refused: give an operator AWS's code and the request id",
    "upstream_unavailable": "try again in a minute",
    "overloaded": "try again in a few seconds",
    "audit_unavailable": _TELL,
    "policies_unavailable": _TELL,
    "keys_unavailable": _TELL,
    "provider_unavailable": "try to sign in again; if that is refused too, give an operator the request id",
    "request_closed": "`broker request create INSTANCE` asks anew",
    "review_required": "have somebody who may approve look at it: `broker break-glass ls` shows which",
    "locked": "talk to whoever locked it",
    "superseded": "somebody else was faster: look at it again, then decide anew",
    "invalid_request": "compare what you typed with `broker help COMMAND`",
    "invalid_token": "get a new token; if that is refused too, give an operator the request id",
    "reason_required": "say why you want in",
    "ticket_required": "name the ticket that you work on",
    "internal_error": "try again in a minute; if it stays so, give an operator the request id",
}
"""By the code of a problem: what to do now, where the service, which knows nothing of commands, does not say."""

_OPTIONS = {"reason": ("--reason", "TEXT"), "ticket": ("--ticket", "ID")}
"""By what the service asks for: the options of the commands that ask it for access."""

_LOGIN = "broker login"
_LOGIN_INSTEAD = "unset BROKER_TOKEN BROKER_TOKEN_FILE; broker login"
"""What the environment holds would go before the login."""

_WAITING = {"get", "exec", "ssh", "rdp"}
_WAITED_FOR = {"password_not_ready", "instance_not_running", "upstream_unavailable", "overloaded"}
_LOOKED_AT = {"audit_unavailable", "policies_unavailable", "keys_unavailable"}


def sentence(error: ClientError, words: Sequence[str] = ()) -> str:
    """Say what to do now; empty when the error's own text says it all. `words` are those of the command that failed."""
    if isinstance(error, BrokerProblem):
        return error.next or _of_problem(error, words)
    if isinstance(error, Unreachable) and not isinstance(error, ProviderFault):
        return _of_silence(str(error))
    if isinstance(error, Untrusted):
        return "ask whoever runs the service which authority its certificate is from" if _is_about_tls(error) else ""
    if isinstance(error, Misconfigured) and str(error).startswith("BROKER_") and "cannot be" in str(error):
        return "let the variable name a file that can be read, or unset it"
    return ""


def _of_problem(problem: BrokerProblem, words: Sequence[str]) -> str:
    if problem.code == "denied":
        meant = _meant(words)
        return (f"did you mean {meant}? " if meant else "") + "`broker ls` shows what you may reach"
    if problem.code == "not_found" and words[:1] == ["bundles"]:
        return "`broker blueprints --all` lists the names"
    if problem.code == "not_found":
        return f"is {location()} a broker, and as new as this command?"
    if not problem.code:
        return f"this is no broker's answer: is {location()} right, or does a proxy stand in between?"
    return _SENTENCES.get(problem.code, "")


def _of_silence(said: str) -> str:
    """Tell the service from what else may be silent; an error names its host, or calls it so."""
    found = location()
    if said.startswith("the service answered") or (found.host and found.host in said):
        return f"is {found} right, and does the service run?"
    return "try again in a minute; if it stays so, tell whoever runs the service"


def command(error: ClientError, words: Sequence[str]) -> str:
    """Answer what to type now; empty when no command helps. `words` are those of the command that failed."""
    if isinstance(error, BrokerProblem):
        return _by_options(error, words) or _by_code(error, words)
    if isinstance(error, NotReady) and words and words[0] in _WAITING:
        return _again(words, "--wait", "10m")
    return _by_kind(error)


def _by_kind(error: ClientError) -> str:
    match error:
        case Unreachable() if not isinstance(error, ProviderFault):
            return _look()
        case Untrusted() if _is_about_tls(error):
            return _trusting()
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
    if any(step.get("obligation") == "approval" for step in problem.steps):
        return _request(problem, words)
    more = ["--wait", "10m"] if waits else _missing_options(problem)
    if problem.choices and problem.code == "ambiguous_instance":
        return _renamed(words, problem.choices[0])
    if not more or not words:
        return ""
    first = _login_as_asked(problem) if problem.code == "step_up_required" else ""
    return " && ".join(part for part in (first, _again(words, *more)) if part)


def _by_code(problem: BrokerProblem, words: Sequence[str]) -> str:
    """Answer another command that brings one further."""
    code, instance = problem.code, _instance(words)
    if code == "invalid_token":
        return _LOGIN if _LOGIN in problem.next else ""  # whoever was given a token otherwise renews it there
    if code == "step_up_required":
        return _login_as_asked(problem)
    if code == "approval_required":
        return _request(problem, words)
    if code == "denied" and instance and words[0] in _WAITING:
        meant = _meant(words)
        return _renamed(words, meant) if meant else shlex.join(["broker", "doctor", instance])
    if code == "host_key_changed" and instance:
        return shlex.join(["broker", "hosts", "show", instance])
    return _look() if code in _LOOKED_AT else ""


def _missing_options(problem: BrokerProblem) -> list[str]:
    """Name the options for all that the service asks for: by its steps, else by its code and its words."""
    if problem.steps:
        asked = " ".join(step.get("obligation", "") for step in problem.steps)
    else:
        asked = f"{problem.code} {problem.next}" if problem.code.endswith("_required") else ""
    return [word for what, option in _OPTIONS.items() if what in asked for word in option]


def _login_as_asked(problem: BrokerProblem) -> str:
    """Write down the login that would do, as the service asks for it (RFC 9470)."""
    acr = " ".join(value for step in problem.steps for value in step.get("acr_values", []))
    ages = [step["max_age"] for step in problem.steps if "max_age" in step]
    options = [*(["--acr", acr] if acr else []), *(["--max-age", f"{min(ages)}s"] if ages else [])]
    instead = _LOGIN_INSTEAD if "unset BROKER_TOKEN" in problem.next else _LOGIN
    return f"{instead} {shlex.join(options)}" if options else instead


def _request(problem: BrokerProblem, words: Sequence[str]) -> str:
    """Write down how somebody is asked to approve what a command was typed for; "" where it was for nothing."""
    if not words or words[0] not in _WAITING or not _exists("request"):
        return ""
    from broker.cli.main import parser_of

    typed = vars(parser_of(words[0]).parse_args(words[1:]))
    missing = _missing_options(problem)
    line = ["broker", "request", "create", typed["instance"]]
    for name, (option, metavar) in _OPTIONS.items():
        if typed.get(name) or option in missing:
            line += [option, metavar if option in missing else typed[name]]
    return shlex.join([*line, *(["--protocol", typed["protocol"]] if typed.get("protocol") else [])])


def _again(words: Sequence[str], *more: str) -> str:
    """Write the command down anew, with more options: what stands behind `--` belongs to another program."""
    end = words.index("--") if "--" in words else len(words)
    own = list(words[:end])
    if more[0] in own:  # --wait that was too short
        place = own.index(more[0])
        del own[place : place + 2]
    return shlex.join(["broker", *own, *more, *words[end:]])


def _instance(words: Sequence[str]) -> str:
    """Answer which instance a command was typed for; "" where it was for none."""
    if not words or not _exists(words[0]):
        return ""
    from broker.cli.main import parser_of

    return getattr(parser_of(words[0]).parse_args(words[1:]), "instance", "")


def _renamed(words: Sequence[str], name: str) -> str:
    """Write the command down for another instance."""
    typed = _instance(words)
    place = words.index(typed) if typed in words else len(words)
    return shlex.join(["broker", *words[:place], name, *words[place + 1 :]])


def _meant(words: Sequence[str]) -> str:
    """Answer the instance that may have been meant; "" when none is called like it, or one is called so."""
    if not words or words[0] not in _WAITING:
        return ""
    from broker.cli.suggesting import likely_instance

    return likely_instance(_instance(words))


def _trusting() -> str:
    found = location()
    if found.is_of_login:
        return f"{_LOGIN} {shlex.quote(found.url)} --ca-file /path/to/authority.pem"
    return "export BROKER_CA_FILE=/path/to/authority.pem"


def _look() -> str:
    found = location()
    trust = ["--cacert", found.ca_file] if found.ca_file else []
    return shlex.join(["curl", "-sS", *trust, f"{found.url}/readyz"]) if found.url else ""


def _exists(name: str) -> bool:
    from broker.cli.main import COMMANDS

    return name in COMMANDS


def _is_about_tls(error: ClientError) -> bool:
    return type(error.__cause__).__name__ == "SSLCertVerificationError"
