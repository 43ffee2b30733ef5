"""What every command says that asks for a credential: which instance, why, and how long to wait."""

from __future__ import annotations

import os
from functools import partial

from broker.cli import durations, output
from broker.cli.stepping import step_by_step
from broker.client import BrokerProblem, Misconfigured, new_idempotency_key
from broker.client.purpose import Purpose
from broker.client.waiting import patiently

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Mapping

    from broker.client import Broker
    from broker.client.documents import CredentialDocument

_TRUE_OF_ALL = "The certificate is checked at login only"
"""How a warning of the service begins that the help and the answer itself say too; to hear it each time is noise."""


def add_arguments(parser: ArgumentParser, *, wait: str = "0s") -> None:
    """Add the instance and what may be said about the request; `wait` is how long is waited unless told otherwise."""
    parser.add_argument("instance", metavar="INSTANCE", help="its name, or account/region/name")
    add_purpose(parser)
    parser.add_argument(
        "--wait",
        metavar="TIME",
        type=durations.seconds,
        default=durations.seconds(wait),
        help=f"keep trying what is not ready yet, such as 5m (default: {wait})",
    )


def add_purpose(parser: ArgumentParser) -> None:
    """Add what policies may ask for."""
    add_reasons(parser, os.environ)
    parser.add_argument("--break-glass", action="store_true", help="ask by the policies for emergencies")
    parser.add_argument(
        "--no-input", action="store_true", help="ask nothing at the terminal: exit 6 when more is needed"
    )


def add_reasons(parser: ArgumentParser, environment: Mapping[str, str]) -> None:
    """Add the reason and the ticket; what the options do not say, `BROKER_REASON` and `BROKER_TICKET` do."""
    for name, metavar, purpose in (("reason", "TEXT", "why"), ("ticket", "ID", "the ticket")):
        variable = f"BROKER_{name.upper()}"
        help_text = f"{purpose}; policies may ask for it (default: {variable})"
        parser.add_argument(f"--{name}", metavar=metavar, default=environment.get(variable, ""), help=help_text)


def ask(arguments: Namespace, protocol: str | None = None, idempotency_key: str = "") -> CredentialDocument:
    """Ask for the credential, under one key over all attempts, and say its warnings. Raises a ClientError."""
    purpose = Purpose(arguments.reason, arguments.ticket, break_glass=arguments.break_glass)
    key = idempotency_key or new_idempotency_key()

    def attempt(broker: Broker) -> CredentialDocument:
        asking = partial(broker.credential, arguments.instance, protocol=protocol, **purpose.document())
        with output.Progress(arguments.wait) as progress:
            asked = partial(asking, idempotency_key=key)
            return patiently(asked, arguments.wait, progress.notice, sleep=progress.sleep)

    credential = step_by_step(attempt, purpose, may_ask=not arguments.no_input)
    _warn(credential)
    return credential


def _warn(credential: CredentialDocument) -> None:
    """Say the service's warnings, but for the one that is true of every certificate."""
    for warning in credential.get("warnings", []):
        if not warning.startswith(_TRUE_OF_ALL):
            output.talk(f"warning: {warning}")


def granted(
    instance: str,
    protocol: str,
    purpose: Purpose,
    seconds: float,
    usable: Callable[[CredentialDocument], None],
    *,
    may_ask: bool = True,
) -> CredentialDocument:
    """Ask for a credential that a person uses at once, as long as it helps; say until when it holds, and its warnings.

    Args:
        instance: a bare name, or `account/region/name`.
        protocol: `ssh` or `rdp`.
        purpose: what for; what is asked for at the terminal is put into it.
        seconds: how long to wait for what is not ready yet.
        usable: raises NotReady for a credential that is of no use yet; another one is asked for then.
        may_ask: whether a person may be asked at the terminal.

    Raises:
        ClientError: there is none to be had.
    """

    def attempt(broker: Broker) -> CredentialDocument:
        with output.Progress(seconds) as progress:
            asked = _Attempt(broker, instance, protocol, purpose, usable)
            return patiently(asked, seconds, progress.notice, sleep=progress.sleep)

    try:
        credential = step_by_step(attempt, purpose, may_ask=may_ask)
    except BrokerProblem as problem:
        if problem.code == "protocol_not_supported":
            problem.next = f"`broker {'rdp' if protocol == 'ssh' else 'ssh'} {instance}` opens it"
        raise
    from broker.cli.times import clock

    output.talk(f"{instance} is open until {clock(credential['lease']['expires_at'])}")
    _warn(credential)
    return credential


class _Attempt:
    """Asks under one key until there is an answer; after one that is of no use, the next is asked anew."""

    def __init__(
        self,
        broker: Broker,
        instance: str,
        protocol: str,
        purpose: Purpose,
        usable: Callable[[CredentialDocument], None],
    ) -> None:
        self._broker = broker
        self._instance = instance
        self._protocol = protocol
        self._purpose = purpose
        self._usable = usable
        self._key = new_idempotency_key()

    def __call__(self) -> CredentialDocument:
        credential = self._broker.credential(
            self._instance, protocol=self._protocol, **self._purpose.document(), idempotency_key=self._key
        )
        self._key = new_idempotency_key()
        self._usable(credential)
        return credential


def private_folder() -> str:
    """Answer a folder of ours alone, in memory where there is one, for what must not outlive a command.

    Raises:
        Misconfigured: there is none that can be written.
    """
    import tempfile

    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for parent in (runtime, "/dev/shm", None):  # noqa: S108 - mkdtemp makes its own in there
        if parent is not None and not (parent and os.access(parent, os.W_OK | os.X_OK)):
            continue
        if parent == runtime and os.stat(parent).st_uid != os.getuid():  # noqa: PTH116 - as the other paths here
            continue
        try:
            return tempfile.mkdtemp(prefix="broker-", dir=parent)
        except OSError:
            continue
    raise Misconfigured("there is no folder for temporary files; set TMPDIR to one that can be written")
