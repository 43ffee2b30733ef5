"""Doubles of the rooms that the desk calls. Each has the real interface, and writes down what happened in one diary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from broker.approvals.glass import GlassUse
from broker.approvals.locks import Lock
from broker.approvals.requests import AccessRequest
from broker.errors import AuditUnavailable, BrokerError, BudgetExhausted, Denied, Locked, ReviewRequired
from broker.model import (
    AccessDetails,
    Action,
    Caller,
    Credential,
    CredentialFacts,
    CredentialRequest,
    Decision,
    Event,
    HostKey,
    Instance,
    InstanceRef,
    Nearest,
    Obligation,
    Opened,
    Platform,
    PolicySource,
    Protocol,
    Receipt,
    RequestContext,
    Secret,
    Source,
    SshCredential,
    SshKeyPair,
    Step,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CALLER = Caller(issuer="corp", subject="alice", kind="user", groups=("ops",), token_expires_at=NOW + timedelta(hours=1))
SOURCE = Source("203.0.113.9", "test")


def instance(name: str = "web-1", region: str = "eu-west-1", platform: Platform = Platform.LINUX_UNIX) -> Instance:
    """Answer a running instance."""
    return Instance(
        ref=InstanceRef("main", region, name),
        platform=platform,
        blueprint="amazon_linux_2023",
        bundle="nano_3_0",
        state="running",
    )


def credential_request(name: str = "web-1", protocol: Protocol | None = None) -> CredentialRequest:
    """Answer a request for an instance."""
    return CredentialRequest(instance=name, protocol=protocol)


class Diary(list[str]):
    """What happened, in order."""


class Approved:
    """Knows which request was approved, if one was."""

    def __init__(self, request: AccessRequest | None = None) -> None:
        self._request = request

    async def in_force(self, caller: Caller, instance: InstanceRef, protocol: Protocol) -> AccessRequest | None:
        """Answer it when it fits."""
        request = self._request
        if request is None or str(request.requester) != str(caller):
            return None
        return request if (request.instance, request.protocol) == (instance, protocol) else None


class Glass:
    """Knows of one use that nobody has reviewed, if there is one; keeps in mind what else is used."""

    def __init__(self, diary: Diary, owed: GlassUse | None = None) -> None:
        self._diary = diary
        self._owed = owed

    async def owed(self, caller: Caller) -> GlassUse | None:
        """Answer it when it is of the caller."""
        owed = self._owed
        return owed if owed and str(owed.person) == str(caller) else None

    async def use(self, event: Event, caller: Caller) -> str:
        """Take a use, or refuse a second one."""
        del event
        if await self.owed(caller):
            raise ReviewRequired(detail="reviewed first")
        self._diary.append("break_glass.used")
        return "glass-1"


class Padlocks:
    """Holds the locks that it was given."""

    def __init__(self, *locks: Lock) -> None:
        self._locks = locks

    def on(self, instance: InstanceRef) -> Lock | None:
        """Answer the one that fits."""
        return next((lock for lock in self._locks if lock.is_on_instance(instance)), None)

    async def admit(self, caller: Caller, source: Source, request_id: str, route: str) -> None:
        """Keep out whom a lock is on."""
        del source, request_id, route
        if any(lock.is_on_caller(caller) for lock in self._locks):
            raise Locked(detail="locked")


class Purse:
    """Has so many issues left; a request that comes beyond is refused."""

    def __init__(self, left: int = 1000) -> None:
        self.left = left

    @asynccontextmanager
    async def spending(self, event: Event) -> AsyncIterator[None]:
        """Take one."""
        del event  # everybody's purse is this one
        if not self.left:
            raise BudgetExhausted("all is spent", retry_after=7)
        self.left -= 1
        yield


class ListedInventory:
    """Knows the instances that it was given."""

    def __init__(self, *instances: Instance) -> None:
        self._instances = instances

    async def find(self, target: str) -> tuple[Instance, ...]:
        return tuple(i for i in self._instances if target in {i.ref.name, str(i.ref)})

    async def fresh(self, instance: Instance, within: timedelta) -> Instance:
        del within
        found = await self.find(str(instance.ref))
        if not found:
            raise Denied
        return found[0]


class TablePolicies:
    """Allows what stands in its table, by action and instance name."""

    def __init__(
        self,
        allowed: Sequence[tuple[Action, str]],
        obligations: tuple[Obligation, ...] = (),
        max_duration: timedelta | None = None,
        errors: tuple[str, ...] = (),
        emergencies: Sequence[tuple[Action, str]] = (),
    ) -> None:
        self._allowed = set(allowed)
        self._emergencies = {*allowed, *emergencies}
        self._steps = tuple(Step(obligation=each) for each in obligations)
        self._max_duration = max_duration
        self._errors = errors
        self.decided_each = 0
        """How many instances of lists were decided upon."""

    def decide(
        self,
        caller: Caller,
        action: Action,
        resource: Instance | str,
        context: RequestContext,
        *,
        obliging: bool = False,
    ) -> Decision:
        del caller
        name = resource if isinstance(resource, str) else resource.ref.name
        table = self._emergencies if context.break_glass else self._allowed
        allowed = (action, name) in table and not self._errors
        return Decision(
            allowed=allowed,
            policies=("table",) if allowed else (),
            digest="d1",
            max_duration=self._max_duration,
            steps=self._steps if obliging and not allowed and not self._errors else (),
            errors=self._errors,
        )

    async def decide_each(
        self, caller: Caller, action: Action, instances: Iterable[Instance], context: RequestContext
    ) -> Sequence[Decision]:
        decisions = [self.decide(caller, action, each, context) for each in instances]
        self.decided_each += len(decisions)
        return decisions

    def within_reach(self, caller: Caller, action: Action, resource: Instance | str, context: RequestContext) -> bool:
        decision = self.decide(caller, action, resource, context, obliging=True)
        return decision.allowed or bool(decision.steps)

    def sources(self, policies: Iterable[str]) -> tuple[PolicySource, ...]:
        return tuple(PolicySource(id=name, file="table.cedar", line=1) for name in policies)

    def nearest(self, caller: Caller, action: Action, resource: Instance, context: RequestContext) -> Nearest | None:
        del caller, action, resource, context
        return Nearest(group="somewhere")


class DiaryGateway:
    """Answers access details at once, or fails as it was told, after so many attempts."""

    def __init__(
        self,
        diary: Diary,
        error: BaseException | None = None,
        attempts: int = 1,
        host_keys: tuple[HostKey, ...] = (),
    ) -> None:
        self._diary = diary
        self._error = error
        self._attempts = attempts
        self._host_keys = host_keys

    async def access_details(self, instance: Instance, protocol: Protocol) -> AccessDetails:
        self._diary.append("aws")
        if isinstance(self._error, BrokerError):
            self._error.attempts, self._error.upstream_request_id = self._attempts, "aws-1"
        if self._error:
            raise self._error
        return AccessDetails(
            instance=instance.ref,
            protocol=protocol,
            username="ec2-user",
            ip_address="203.0.113.7",
            ipv6_addresses=(),
            host_keys=self._host_keys,
            material=SshKeyPair(Secret("PRIVATE"), "ssh-rsa-cert-v01@openssh.com AAAA", None),
            upstream_request_id="aws-1",
            attempts=self._attempts,
        )


class ClearVault:
    """Opens everything, to an SSH key that expires at a given time, or fails as it was told."""

    def __init__(self, expires_at: datetime, error: BrokerError | None = None) -> None:
        self._expires_at = expires_at
        self._error = error

    async def open(self, details: AccessDetails, instance: Instance) -> Opened:
        del details, instance
        if self._error:
            raise self._error
        return Opened(
            private_key=Secret("PRIVATE"),
            certificate="CERT",
            expires_at=self._expires_at,
            facts=CredentialFacts(certificate_serial=7, key_id="k"),
        )


class PinnedHostKeys:
    """Holds every instance to the given keys; each question is answered by the next ones, the last for ever."""

    def __init__(self, *answers: Sequence[str] | BrokerError | None) -> None:
        self._answers = list(answers) or [None]

    async def pinned(self, instance: InstanceRef) -> frozenset[str] | None:
        del instance
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, BrokerError):
            raise answer
        return None if answer is None else frozenset(answer)


class DiaryLedger:
    """Keeps events in memory; refuses those that it was told to refuse."""

    def __init__(self, diary: Diary, refuses: Sequence[str] = ()) -> None:
        self._diary = diary
        self._refuses = refuses
        self.events: list[Event] = []

    async def append(self, event: Event, *, after: int | None = None) -> Receipt:
        del after  # nobody else writes here
        if event.event in self._refuses:
            raise AuditUnavailable("the disk is gone")
        self._diary.append(event.event)
        self.events.append(event)
        return Receipt(len(self.events) - 1, b"\0" * 32, NOW)


def hand_over(
    instance: Instance, details: AccessDetails, opened: Opened, *, lease_expires_at: datetime, now: datetime
) -> Credential:
    """Put an SSH credential together."""
    del now
    assert opened.private_key is not None
    return Credential(
        instance=instance,
        protocol=details.protocol,
        host=details.ip_address or "",
        ipv6_addresses=(),
        port=22,
        username=details.username,
        secret=SshCredential(
            private_key=opened.private_key,
            certificate=opened.certificate,
            known_hosts=(),
            expires_at=opened.expires_at or lease_expires_at,
        ),
        warnings=(),
    )
