"""All checks in order. What comes behind a cause would be noise, so it is not looked at."""

from __future__ import annotations

import time

from broker.client import Broker
from broker.client.access import Access
from broker.client.diagnosis import desktop, login, network, policy, service
from broker.client.diagnosis.commands import Names
from broker.client.diagnosis.finding import Finding, ok, problem, skipped
from broker.client.errors import ClientError, HostKeysUnknown, Misconfigured, NotLoggedIn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from broker.client.documents import CredentialDocument

_GO_ON = frozenset({"clock", "service-unready"})
"""Causes that do not keep anybody from looking further."""


class Question:
    """What is to be found out, and with what."""

    def __init__(
        self,
        instance: str,
        environment: Mapping[str, str],
        folder: str,
        *,
        protocol: str | None = None,
        reason: str = "",
        ticket: str = "",
        clock: Callable[[], float] = time.time,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`folder` is of ours alone and vanishes; `notice` is told before a credential is asked for."""
        self.instance, self.environment, self.folder = instance, environment, folder
        self.protocol, self.reason, self.ticket = protocol, reason, ticket
        self.clock, self.notice = clock, notice
        self.skew = 0.0
        self.names = Names(instance)

    def now(self) -> float:
        """Answer the service's time, in seconds since 1970."""
        return self.clock() - self.skew


def diagnose(question: Question) -> Iterator[Finding]:
    """Answer the findings one after the other, up to the first cause that stands in the way of the next check."""
    for finding in _findings(question):
        finding.command = finding.command or question.names.command(finding.cause)
        finding.fix = question.names.narrowed(finding.fix)
        yield finding


def _findings(question: Question) -> Iterator[Finding]:
    try:
        for finding in _checks(question):
            yield finding
            if finding.status == "problem" and finding.cause not in _GO_ON:
                yield skipped("what follows", "not looked at until this is mended")
                return
    except HostKeysUnknown as error:
        yield problem("host key", "host-keys-unknown", str(error))
    except Misconfigured as error:
        command = "broker login https://broker.example.com" if "BROKER_URL is not set" in str(error) else ""
        yield problem("settings", "settings", str(error), command=command)
    except ClientError as error:
        yield problem("service", "service-refused", str(error))
    except Exception as error:  # noqa: BLE001  # its text may hold anything; what was found stays found
        yield problem("doctor", "check-failed", f"a check ended by {type(error).__name__}")


def _checks(question: Question) -> Iterator[Finding]:
    try:
        access = Access.from_environment(question.environment)
    except NotLoggedIn as error:
        yield problem("settings", "token-missing", str(error))
        return
    question.names.reached_at(access.origin, access.ca_file)
    yield ok("settings", f"the service is {access.origin}")
    finding, reply = service.reached(access)
    yield finding
    if reply is None:
        return
    now = question.clock()
    question.skew = now - reply.date if reply.date is not None else 0.0
    yield service.clock(reply, now)
    with Broker(access) as broker:
        yield service.token(access, broker, question.now())
        yield service.health(reply)
        yield from _instance(question, broker)


def _instance(question: Question, broker: Broker) -> Iterator[Finding]:
    listed = list(broker.instances())
    found = policy.named(listed, question.instance)
    if len(found) > 1:
        yield policy.ambiguous(found)
    if found:
        question.names.found(found[0])
        yield ok("instance", "{account}/{region}/{name}, {platform}".format(**found[0]))
    else:
        yield skipped("instance", "not among those that you may list")
    if question.protocol:
        question.names.opened_by(question.protocol)
    answer = policy.decided(broker, question, listed=bool(found))
    yield policy.suggesting(answer, question.instance, listed)
    if found:
        yield policy.running(found[0])
    yield from _credential(question, broker)


def _credential(question: Question, broker: Broker) -> Iterator[Finding]:
    question.notice(f"asking for a credential for {question.instance}, to try it; the audit log records that")
    try:
        credential = broker.credential(
            question.instance, protocol=question.protocol, reason=question.reason, ticket=question.ticket
        )
    except ClientError as error:
        yield policy.refused("credential", error)
        return
    yield ok("credential", f"issued: lease {credential['lease']['id']}")
    question.names.opened_by(credential["protocol"])
    yield network.port(credential["host"], credential["port"])
    yield from _login(question, credential)


def _login(question: Question, credential: CredentialDocument) -> Iterator[Finding]:
    if credential["protocol"] == "rdp":
        yield from desktop.tried(credential, question.folder, question.environment)
        return
    finding, banner = network.banner(credential["host"], credential["port"])
    yield finding
    yield from login.tried(credential, banner, question.folder, question.environment, question.now())
