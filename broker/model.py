"""The vocabulary that every room speaks. Standard library only; values, no behaviour that reaches outside.

Names carry trust: a `Caller` exists only after its token's signature held, a `Receipt` only after its event is
durable, a `SealedPassword` is what AWS sent and a `Secret` is what must never be seen by chance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Literal, NamedTuple, NoReturn, Self

Clock = Callable[[], datetime]
"""Answers the current time as an aware UTC datetime. Passed in everywhere, so that tests own the time."""


def utc_now() -> datetime:
    """Answer the current time, aware and in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """Write an aware datetime in UTC with milliseconds, such as `2026-01-31T09:30:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Secret:
    """Text that must not be seen by chance: masked wherever it is printed, never pickled or copied.

    `reveal` has few callers, and a test counts them.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Answer the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        msg = "a Secret is neither pickled nor copied"
        raise TypeError(msg)


class Protocol(StrEnum):
    """How one gets into an instance; AWS's `protocol`."""

    SSH = "ssh"
    RDP = "rdp"


class Platform(StrEnum):
    """What runs on an instance; AWS's `platform` of its blueprint."""

    LINUX_UNIX = "LINUX_UNIX"
    WINDOWS = "WINDOWS"

    @property
    def protocol(self) -> Protocol:
        """The one protocol by which Lightsail opens this platform."""
        return Protocol.RDP if self is Platform.WINDOWS else Protocol.SSH


class Action(StrEnum):
    """What a policy decides on; the names are those of the Cedar schema."""

    SSH = "ssh"
    RDP = "rdp"
    LIST = "list"
    APPROVE = "approve"
    READ_AUDIT = "readAudit"
    LOCK = "lock"


LIGHTSAIL_REGIONS = frozenset(
    {
        *("us-east-1", "us-east-2", "us-west-2", "ca-central-1"),
        *("eu-west-1", "eu-west-2", "eu-west-3", "eu-central-1", "eu-north-1"),
        *("ap-south-1", "ap-northeast-1", "ap-northeast-2"),
        *("ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-5"),
    }
)
"""Where Lightsail is offered: AWS General Reference, "Amazon Lightsail endpoints and quotas". The SDK takes any."""


# Lightsail's own rule `\w[\w\-]*\w` is not anchored and admits any script; see the class below for ours.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,253}[A-Za-z0-9]", re.ASCII)


def is_resource_name(text: str) -> bool:
    """Tell whether this can name an instance or a key pair: 2 to 255 of `A-Za-z0-9._-`, ends alphanumeric."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, order=True)
class InstanceRef:
    """Where an instance is: our account name, AWS region, instance name. Written `account/region/name`."""

    account: str
    region: str
    name: str

    def __str__(self) -> str:
        return f"{self.account}/{self.region}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `account/region/name`; None when it is not of that form."""
        match text.split("/"):
            case [account, region, name] if account and region and is_resource_name(name):
                return cls(account, region, name)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """What an instance is made from (AWS Blueprint). `min_power` is the least `Bundle.power` that runs it."""

    blueprint_id: str
    name: str
    group: str
    type: str
    description: str
    is_active: bool
    min_power: int
    version: str
    version_code: str
    product_url: str
    license_url: str
    platform: Platform
    app_category: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A size one can buy (AWS Bundle). Price in US$ a month, memory and disk in GB, transfer in GB a month."""

    bundle_id: str
    name: str
    instance_type: str
    is_active: bool
    price: float
    cpu_count: int
    ram_size_in_gb: float
    disk_size_in_gb: int
    transfer_per_month_in_gb: int
    power: int
    supported_platforms: tuple[Platform, ...]
    supported_app_categories: tuple[str, ...] = ()
    public_ipv4_address_count: int | None = None

    def can_run(self, blueprint: Blueprint) -> bool:
        """Tell whether this bundle supports the blueprint's platform and is powerful enough for it."""
        return blueprint.platform in self.supported_platforms and self.power >= blueprint.min_power


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One server, as GetInstances and the catalogue describe it. `warnings` are sentences for people."""

    ref: InstanceRef
    platform: Platform
    blueprint: str
    bundle: str
    state: str
    tags: Mapping[str, str] = field(default_factory=dict)
    key_pair: str = ""
    key_pair_fingerprint: str = ""
    """As AWS writes it; empty when AWS has no such pair any more, or could not be asked."""
    arn: str = ""
    warnings: tuple[str, ...] = ()
    read_at: datetime | None = None
    """When AWS was asked for what this says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. Built by `identity` alone, after the token's signature and every claim held."""

    issuer: str
    """The issuer's short name in the settings, not its URL."""
    subject: str
    kind: Literal["user", "workload"]
    groups: tuple[str, ...] = ()
    email: str | None = None
    """Only a verified address (`email_verified`)."""
    mfa: bool = False
    authenticated_at: datetime | None = None
    """The token's `auth_time`: when the person last logged in."""
    bound: bool = False
    """The token is bound to a key that the sender proved to hold (DPoP or mTLS)."""
    token_id: str = ""
    """First 16 hex digits of the token's SHA-256: joins uses of one token without revealing it."""
    token_expires_at: datetime

    def __str__(self) -> str:
        return f"{self.issuer}/{self.subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What a request brings to prove who sends it. Nothing of it is believed yet, and none of it is ever printed."""

    authorization: tuple[str, ...] = field(default=(), repr=False)
    """Every value of its Authorization headers, as they came."""
    dpop: tuple[str, ...] = field(default=(), repr=False)
    """Every value of its DPoP headers."""
    method: str = ""
    url: str = ""
    """The address under which the sender reached us, without query."""
    certificate_sha256: bytes = field(default=b"", repr=False)
    """Of the client certificate in DER, for whose key our own TLS handshake has vouched; empty when there is none."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a request came from: the peer's address and what it calls itself (bounded, printable)."""

    ip: str
    user_agent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRequest:
    """What the caller asks for. `instance` is a bare name or `account/region/name`."""

    instance: str
    protocol: Protocol | None = None
    reason: str = ""
    ticket: str = ""
    break_glass: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """What a policy may ask about the request itself, beside caller and resource."""

    now: datetime
    source_ip: str
    reason: str = ""
    ticket: str = ""
    approvals: int = 0
    break_glass: bool = False
    zone: tzinfo = UTC
    """In which policies are told the local time."""


class Obligation(StrEnum):
    """What would turn a denial into a permit."""

    MFA = "mfa"
    FRESH_LOGIN = "fresh_login"
    REASON = "reason"
    TICKET = "ticket"
    APPROVAL = "approval"
    REVIEW = "review"
    """Of the caller's last break-glass use; never found by asking the policies again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One obligation as exactly as the policies tell it. What does not belong to its obligation is empty."""

    obligation: Obligation
    acr_values: tuple[str, ...] = ()
    """MFA: which logins the caller's issuer counts as multi-factor (RFC 9470)."""
    max_age: int | None = None
    """Fresh login: how many seconds ago it may have been at most; None when the policies look at no age."""
    pattern: str = ""
    """Reason, ticket: as a policy's `like` has it; empty when any text will do."""
    approvals: int = 0
    """Approval: how many are needed."""
    approvers: tuple[str, ...] = ()
    """Approval: whom the policies name as approvers, as `group issuer/name` or `issuer/subject`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySource:
    """Where a policy stands, and what it says. `line` counts from 1."""

    id: str
    file: str
    line: int
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """What would have allowed a denied request: one group more, and perhaps steps beside.

    `policies` are those that would decide then.
    """

    group: str
    policies: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def obligations(self) -> tuple[Obligation, ...]:
        """What more is needed, by name."""
        return tuple(step.obligation for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the policies said. `policies` are the `@id`s that decided; `digest` names the policy set.

    `steps` would turn a denial into a permit. `nearest` and `sources` are there only where somebody asked why (not),
    and may know of the instance.
    """

    allowed: bool
    policies: tuple[str, ...] = ()
    digest: str = ""
    max_duration: timedelta | None = None
    max_staleness: timedelta | None = None
    """A permit that holds only for what AWS said of the instance so recently."""
    steps: tuple[Step, ...] = ()
    errors: tuple[str, ...] = ()
    nearest: Nearest | None = None
    sources: tuple[PolicySource, ...] = ()

    @property
    def obligations(self) -> tuple[Obligation, ...]:
        """What would turn a denial into a permit, by name."""
        return tuple(step.obligation for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """A key by which the instance proves itself (AWS HostKeyAttributes).

    SSH: `algorithm` is the key type and `public_key` the base64 blob. RDP: `x509-cert` and base64 DER.
    `sha256` is lower-case hex without separators, computed by us from `public_key`.
    """

    algorithm: str
    public_key: str
    sha256: str

    @property
    def text(self) -> str:
        """Write it as the audit log has it: `<algorithm> <sha256>`."""
        return f"{self.algorithm} {self.sha256}"


@dataclass(frozen=True, slots=True)
class SshKeyPair:
    """What AWS answers for ssh: a private key (PEM) and its certificate (one OpenSSH line)."""

    private_key: Secret
    certificate: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class SealedPassword:
    """What AWS answers for rdp with a custom key pair: RSA PKCS#1 v1.5 ciphertext and who can open it."""

    ciphertext: bytes
    key_pair: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDetails:
    """One checked answer of GetInstanceAccessDetails. `material` is all that the protocol brought."""

    instance: InstanceRef
    protocol: Protocol
    username: str
    ip_address: str | None
    ipv6_addresses: tuple[str, ...]
    host_keys: tuple[HostKey, ...]
    material: SshKeyPair | SealedPassword | Secret
    """A bare `Secret` is the Administrator password of a default key pair, which AWS gives in clear."""
    upstream_request_id: str = ""
    attempts: int = 1
    """How often AWS received the request, throttled and failed ones included; `upstream_request_id` is the last."""

    @property
    def host(self) -> str | None:
        """The address to connect to: IPv4, else the first IPv6; None when the instance has neither."""
        return self.ip_address or (self.ipv6_addresses[0] if self.ipv6_addresses else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialFacts:
    """What may be written down about a credential: never the credential, nor anything derived from a password."""

    certificate_serial: int | None = None
    key_id: str = ""
    public_key_sha256: str = ""
    key_pair: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What `unsealing` makes of access details: the secrets in clear, their own expiry, and the facts for the log."""

    private_key: Secret | None = None
    certificate: str = ""
    password: Secret | None = None
    expires_at: datetime | None = None
    facts: CredentialFacts
    warnings: tuple[str, ...] = ()
    """What people should know about this credential, found while opening it."""


Outcome = Literal["success", "failure", "denied", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the audit log, before it has a place and a time in it. Holds no secret by construction."""

    event: str
    outcome: Outcome
    request_id: str = ""
    actor: Caller | None = None
    source: Source | None = None
    instance: InstanceRef | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """Those of the instance when it was decided on."""
    target: str = ""
    """What was asked for, when it names no instance that the broker knows."""
    protocol: Protocol | None = None
    reason: str = ""
    ticket: str = ""
    break_glass: bool = False
    decision: Decision | None = None
    lease_id: str = ""
    expires_at: datetime | None = None
    credential: CredentialFacts | None = None
    upstream_request_id: str = ""
    error: str = ""
    details: Mapping[str, str | int | bool | tuple[str, ...] | Mapping[str, int]] = field(default_factory=dict)


EVENTS = (
    "audit.exported",
    "audit.key_rotated",
    "audit.migrated",
    "audit.pruned",
    "audit.read",
    "audit.rebuilt",
    "audit.reviewed",
    "audit.verified",
    "authentication.failures",
    "break_glass.refused",
    "break_glass.reviewed",
    "break_glass.used",
    "budget.exhausted",
    "console.link_made",
    "console.link_used",
    "console.signed_in",
    "console.signed_out",
    "credential.denied",
    "credential.failed",
    "credential.issued",
    "credential.requested",
    "credential.withheld",
    "host_keys.accepted",
    "host_keys.refused",
    "keys.added",
    "keys.removed",
    "keys.rewrapped",
    "lock.created",
    "lock.expired",
    "lock.refused",
    "lock.removed",
    "policies.loaded",
    "policies.refused",
    "request.approved",
    "request.cancelled",
    "request.created",
    "request.denied",
    "request.expired",
    "request.refused",
    "service.started",
    "service.stopped",
    "spool.rejected",
)
"""Every event that the broker writes."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that an event is durable: its place in the log and its RFC 6962 leaf hash. Built by `audit.log` alone."""

    index: int
    leaf_hash: bytes
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """For how long access was granted. `expires_at` is None for a password, which no one takes back."""

    id: str
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SshCredential:
    """What opens a Linux or Unix instance. `known_hosts` lines hold for host and port as they are."""

    private_key: Secret
    certificate: str
    known_hosts: tuple[str, ...]
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RdpCredential:
    """What opens a Windows instance. `file` is a `.rdp` file without the password."""

    password: Secret
    certificate_sha256: tuple[str, ...]
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What is handed over, in clear; `delivery` seals it when the caller sent a key."""

    instance: Instance
    protocol: Protocol
    host: str
    ipv6_addresses: tuple[str, ...]
    port: int
    username: str
    secret: SshCredential | RdpCredential
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Issued:
    """A credential that may leave: it cannot exist without the receipt of its durable event."""

    credential: Credential
    lease: Lease
    decision: Decision
    receipt: Receipt


class Measure(NamedTuple):
    """A number about something, now. Labels are configured names or digests, in the order that the metric has."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """How one component is. `detail` is a sentence for operators, without secrets, names of people or paths."""

    component: str
    ready: bool
    detail: str = ""
