"""`POST /v1/credentials` and `POST /v1/decisions`: from a body to the desk, and from an issued credential to JSON."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, Literal, Protocol, Self

import orjson
from pydantic import Field, StrictBool

from broker import errors
from broker.delivery.sealing import Recipient, recipient, seal
from broker.issuing.desk import Asking
from broker.model import (
    Caller,
    CredentialRequest,
    Decision,
    Issued,
    Nearest,
    RdpCredential,
    Receipt,
    SshCredential,
    rfc3339,
)
from broker.model import Protocol as AccessProtocol
from broker.web.encoding import base64_text
from broker.web.parsing import Line
from broker.web.problems import StepOut
from broker.web.routes import Answer, Guarded, Input, Nothing, Output, Visit

_LONGEST_PASSWORD: Final = 256
"""Of Windows, written in JSON: 127 characters, each of which may need a backslash, and the quotes."""


class PublicKey(Input):
    """A public key to seal to (RFC 7517): P-256, or X25519."""

    kty: Literal["EC", "OKP"]
    crv: Literal["P-256", "X25519"]
    x: Annotated[str, Field(max_length=64)]
    y: Annotated[str, Field(max_length=64)] | None = None
    kid: Annotated[str, Field(max_length=128)] | None = None


class CredentialBody(Input):
    """What to open and why. Only `instance` is required."""

    instance: Annotated[str, Field(min_length=2, max_length=400, examples=["web-1", "main/eu-west-1/web-1"])]
    protocol: AccessProtocol | None = None
    reason: Line = ""
    ticket: Line = ""
    break_glass: StrictBool = False
    seal_to: PublicKey | None = None

    def request(self) -> CredentialRequest:
        """Answer the same in the vocabulary of the desk."""
        return CredentialRequest(
            instance=self.instance,
            protocol=self.protocol,
            reason=self.reason,
            ticket=self.ticket,
            break_glass=self.break_glass,
        )


class LeaseOut(Output):
    """For how long access was granted."""

    id: str
    issued_at: str
    expires_at: str


class InstanceOut(Output):
    """Which instance this is."""

    account: str
    region: str
    name: str
    platform: str


class SshOut(Output):
    """What opens a Linux or Unix instance."""

    private_key: str
    certificate: str
    known_hosts: list[str]
    expires_at: str


class RdpOut(Output):
    """What opens a Windows instance. `expires_at` is null: the password lives on until it is changed there."""

    password: str
    certificate_sha256: list[str]
    file: str
    expires_at: str | None


class DecisionOut(Output):
    """The policies that decided, by `@id`."""

    policies: list[str]


class ReceiptOut(Output):
    """Where the audit log holds the event, and its RFC 6962 leaf hash in base64."""

    index: int
    leaf_hash: str


class CredentialOut(Output):
    """A credential. One of `ssh`, `rdp` and `sealed` is present."""

    lease: LeaseOut
    instance: InstanceOut
    protocol: AccessProtocol
    host: str
    ipv6_addresses: list[str]
    port: int
    username: str
    ssh: SshOut | None = None
    rdp: RdpOut | None = None
    sealed: str | None = None
    revocable: bool
    warnings: list[str]
    decision: DecisionOut
    audit: ReceiptOut


class NearestOut(Output):
    """One group more, and perhaps steps beside, would allow it; `policies` are those that would decide."""

    group: str
    policies: list[str]
    obligations: list[str]
    steps: list[StepOut]


class PolicySourceOut(Output):
    """Where a policy stands, by its `@id`."""

    id: str
    file: str
    line: int


class DecisionAnswer(Output):
    """What the policies would say.

    `obligations` are what would turn a denial into a permit, and `steps` the same exactly. For who may know of the
    instance, `forbidden_by` names the policies that forbid it, `nearest` what would allow it, and `deciding` where the
    policies stand that decided, or forbid.
    """

    decision: Literal["allow", "deny"]
    policies: list[str]
    obligations: list[str]
    steps: list[StepOut] | None = None
    deciding: list[PolicySourceOut] | None = None
    forbidden_by: list[str] | None = None
    nearest: NearestOut | None = None

    @classmethod
    def of(cls, decision: Decision) -> Self:
        """Answer the public part of a decision."""
        return cls(
            decision="allow" if decision.allowed else "deny",
            policies=list(decision.policies) if decision.allowed else [],
            obligations=[str(obligation) for obligation in decision.obligations],
            steps=[StepOut.of(step) for step in decision.steps] or None,
            deciding=[PolicySourceOut(id=each.id, file=each.file, line=each.line) for each in decision.sources] or None,
            forbidden_by=None if decision.allowed else list(decision.policies) or None,
            nearest=_nearest(decision.nearest),
        )


def _nearest(nearest: Nearest | None) -> NearestOut | None:
    if nearest is None:
        return None
    return NearestOut(
        group=nearest.group,
        policies=list(nearest.policies),
        obligations=[str(each) for each in nearest.obligations],
        steps=[StepOut.of(step) for step in nearest.steps],
    )


class Desk(Protocol):
    """Issues credentials."""

    async def issue(self, asking: Asking) -> Issued:
        """Issue one credential, or raise the BrokerError that says why not."""
        ...

    async def preview(self, asking: Asking) -> Decision:
        """Decide, and issue nothing."""
        ...


class Credentials:
    """The two routes that ask the desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._running: dict[tuple[Caller, str, str], tuple[CredentialRequest, asyncio.Task[Issued]]] = {}

    def routes(self) -> list[Guarded[Nothing, CredentialBody]]:
        """Answer the routes."""
        return [
            Guarded(
                method="POST",
                path="/v1/credentials",
                summary="Issue a short-lived credential for one instance",
                query=Nothing,
                body=CredentialBody,
                answer=CredentialOut,
                status=201,
                errors=_ERRORS,
                handler=self.create,
            ),
            Guarded(
                method="POST",
                path="/v1/decisions",
                summary="Say what the policies would decide, and issue nothing",
                query=Nothing,
                body=CredentialBody,
                answer=DecisionAnswer,
                errors=(
                    errors.AmbiguousInstance,
                    errors.UpstreamError,
                    errors.UpstreamUnavailable,
                    errors.PoliciesUnavailable,
                ),
                handler=self.decide,
            ),
        ]

    async def create(self, visit: Visit[Nothing, CredentialBody], caller: Caller) -> Answer:
        """Answer 201 with the credential."""
        jwk = visit.body.seal_to
        # Checked before anything is issued for it.
        seal_to = recipient(jwk.model_dump(exclude_none=True)) if jwk else None
        return Answer(status=201, content=_written(await self._issue(visit, caller), seal_to))

    async def decide(self, visit: Visit[Nothing, CredentialBody], caller: Caller) -> Answer:
        """Answer 200 with the decision."""
        decision = await self._desk.preview(_asking(visit, caller))
        return Answer(DecisionAnswer.of(decision).model_dump(exclude_none=True))

    async def _issue(self, visit: Visit[Nothing, CredentialBody], caller: Caller) -> Issued:
        """Issue once; a retry under the same Idempotency-Key joins the call that is still running.

        Credentials are never kept: a retry after the answer is a new, audited credential. A retry may name another key
        to seal to: each answer is sealed to the key of its own request.
        """
        if not visit.idempotency_key:
            return await self._desk.issue(_asking(visit, caller))
        # Another token, or another place, may be allowed something else: it joins nothing.
        key = (caller, visit.source.ip, visit.idempotency_key)
        request = visit.body.request()
        earlier, task = self._running.get(key, (request, None))
        if earlier != request:
            raise errors.InvalidRequest(detail="This Idempotency-Key is in use for another request.")
        if task is None:
            task = asyncio.create_task(self._desk.issue(_asking(visit, caller)))
            self._running[key] = (request, task)
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(task)


_ERRORS = (
    errors.Denied,
    errors.StepUpRequired,
    errors.ReasonRequired,
    errors.TicketRequired,
    errors.ApprovalRequired,
    errors.ReviewRequired,
    errors.AmbiguousInstance,
    errors.InstanceNotRunning,
    errors.PasswordNotReady,
    errors.HostKeyChanged,
    errors.ProtocolNotSupported,
    errors.KeyNotHeld,
    errors.PasswordUndecryptable,
    errors.BudgetExhausted,
    errors.UpstreamError,
    errors.UpstreamUnavailable,
    errors.AuditUnavailable,
    errors.PoliciesUnavailable,
    errors.KeysUnavailable,
)


def _asking(visit: Visit[Nothing, CredentialBody], caller: Caller) -> Asking:
    return Asking(caller=caller, request=visit.body.request(), source=visit.source, request_id=visit.request_id)


def _written(issued: Issued, seal_to: Recipient | None) -> bytes:
    """Write the answer. The one place where a credential becomes text.

    Whoever sees how long an encrypted answer is learns no password's length from it: as many spaces follow, which are
    no part of a JSON text, as the longest password would have taken.
    """
    credential, lease = issued.credential, issued.lease
    kind, secret = _secret(credential.secret)
    spaces = _LONGEST_PASSWORD - len(orjson.dumps(secret["password"])) if "password" in secret else 0
    document = {
        "lease": {"id": lease.id, "issued_at": rfc3339(lease.issued_at), "expires_at": rfc3339(lease.expires_at)},
        "instance": {
            "account": credential.instance.ref.account,
            "region": credential.instance.ref.region,
            "name": credential.instance.ref.name,
            "platform": credential.instance.platform,
        },
        "protocol": credential.protocol,
        "host": credential.host,
        "ipv6_addresses": credential.ipv6_addresses,
        "port": credential.port,
        "username": credential.username,
        **({"sealed": seal(secret, seal_to, spaces)} if seal_to else {kind: secret}),
        "revocable": False,
        "warnings": credential.warnings,
        "decision": {"policies": issued.decision.policies},
        "audit": _receipt(issued.receipt),
    }
    return orjson.dumps(document) + (b"" if seal_to else b" " * spaces)


def _secret(secret: SshCredential | RdpCredential) -> tuple[str, dict[str, object]]:
    if isinstance(secret, SshCredential):
        return "ssh", {
            "private_key": secret.private_key.reveal(),
            "certificate": secret.certificate,
            "known_hosts": list(secret.known_hosts),
            "expires_at": rfc3339(secret.expires_at),
        }
    return "rdp", {
        "password": secret.password.reveal(),
        "certificate_sha256": list(secret.certificate_sha256),
        "file": secret.file,
        "expires_at": None,
    }


def _receipt(receipt: Receipt) -> dict[str, object]:
    return {"index": receipt.index, "leaf_hash": base64_text(receipt.leaf_hash)}
