"""The shapes that the service answers, for type checkers only: nothing imports this module at run time."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class StepDocument(TypedDict, total=False):
    """One step that would turn a refusal into a permit; only what the policies tell is there.

    `obligation` is `mfa`, `fresh_login`, `reason`, `ticket`, `approval` or `review`. `acr_values` and `max_age`
    (seconds) are those of RFC 9470; `pattern` is what a reason or ticket has to look like, with `*` for any text.
    """

    obligation: str
    acr_values: list[str]
    max_age: int
    pattern: str
    approvals: int
    approvers: list[str]


class Problem(TypedDict, total=False):
    """A refusal (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    next: str
    upstream_code: str
    choices: list[str]
    steps: list[StepDocument]


class ProofDocument(TypedDict):
    """An RFC 6962 inclusion proof; hashes in base64."""

    index: int
    size: int
    leaf_hash: str
    hashes: list[str]


class CompletedReceipt(TypedDict):
    """What proves that an event is in the log; null until a checkpoint covers it."""

    index: int
    leaf_hash: str
    checkpoint: str | None
    proof: ProofDocument | None


class LeaseDocument(TypedDict):
    """For how long access was granted; RFC 3339 times."""

    id: str
    issued_at: str
    expires_at: str


class Place(TypedDict):
    """Where an instance is."""

    account: str
    region: str
    name: str
    platform: str


class SshDocument(TypedDict):
    """What opens a Linux or Unix instance."""

    private_key: str
    certificate: str
    known_hosts: list[str]
    expires_at: str


class RdpDocument(TypedDict):
    """What opens a Windows instance; `file` is a `.rdp` file without the password."""

    password: str
    certificate_sha256: list[str]
    file: str
    expires_at: None


class DecidedDocument(TypedDict):
    """Which policies decided."""

    policies: list[str]


class NearestDocument(TypedDict):
    """One group more, and perhaps steps beside, would allow it; `policies` are those that would decide."""

    group: str
    policies: list[str]
    obligations: list[str]
    steps: NotRequired[list[StepDocument]]


class PolicySourceDocument(TypedDict):
    """Where a policy stands, by its `@id`."""

    id: str
    file: str
    line: int


class DecisionDocument(TypedDict):
    """The answer of `POST /v1/decisions`; `obligations` are what would turn a denial into a permit, `steps` how."""

    decision: Literal["allow", "deny"]
    policies: list[str]
    obligations: list[str]
    steps: NotRequired[list[StepDocument]]
    deciding: NotRequired[list[PolicySourceDocument]]
    forbidden_by: NotRequired[list[str]]
    nearest: NotRequired[NearestDocument]


class CallerDocument(TypedDict):
    """The answer of `GET /v1/whoami`: how the service sees the caller; RFC 3339 times, null where unknown."""

    issuer: str
    subject: str
    kind: Literal["user", "workload"]
    groups: list[str]
    email: str | None
    mfa: bool
    bound: bool
    authenticated_at: str | None
    token_expires_at: str
    token_id: str


class ReceiptDocument(TypedDict):
    """Where the audit log holds the event."""

    index: int
    leaf_hash: str


class CredentialDocument(TypedDict):
    """The answer of `POST /v1/credentials`; one of `ssh` and `rdp` is present."""

    lease: LeaseDocument
    instance: Place
    protocol: Literal["ssh", "rdp"]
    host: str
    ipv6_addresses: list[str]
    port: int
    username: str
    ssh: NotRequired[SshDocument]
    rdp: NotRequired[RdpDocument]
    revocable: bool
    warnings: list[str]
    decision: DecidedDocument
    audit: ReceiptDocument


class InstanceDocument(TypedDict):
    """One item of `GET /v1/instances`."""

    name: str
    account: str
    region: str
    platform: str
    blueprint: str
    bundle: str
    state: str
    tags: dict[str, str]
    protocols: list[str]
    warnings: NotRequired[list[str]]


class BlueprintDocument(TypedDict):
    """One item of `GET /v1/blueprints`; the names are AWS's."""

    blueprintId: str
    name: str
    type: str
    platform: str
    version: str
    minPower: int
    isActive: bool


class BundleDocument(TypedDict):
    """One item of `GET /v1/bundles`; the names are AWS's. Price in US$ a month, sizes in GB."""

    bundleId: str
    name: str
    price: float
    cpuCount: int
    ramSizeInGb: float
    diskSizeInGb: int
    transferPerMonthInGb: int
    power: int
    supportedPlatforms: list[str]
    isActive: bool


class LeasedInstance(TypedDict):
    """Where an instance is."""

    account: str
    region: str
    name: str


class LeaseItem(TypedDict):
    """One item of `GET /v1/leases`; RFC 3339 times."""

    lease_id: str
    actor: str
    instance: LeasedInstance
    protocol: str
    issued_at: str | None
    expires_at: str
    reason: str
    ticket: str
    break_glass: bool
    revocable: bool
    note: str
    audit_index: int


class ApprovalDocument(TypedDict):
    """One approver's yes."""

    approver: str
    at: str
    reason: str


class RequestDocument(TypedDict):
    """An access request (`/v1/requests`); RFC 3339 times, durations in seconds."""

    id: str
    state: Literal["pending", "approved", "denied", "cancelled", "expired", "ended"]
    requester: str
    instance: LeasedInstance
    protocol: str
    reason: str
    ticket: str
    created_at: str
    duration: int
    wanted_start: str | None
    pending_until: str
    starts_at: str | None
    ends_at: str | None
    approvals: list[ApprovalDocument]
    approvals_needed: int
    closed_by: str | None
    closing_reason: str
    undelivered: list[str]
    audit_index: int


class UseDocument(TypedDict):
    """A break-glass use (`/v1/break-glass`); while it is `open`, the same person cannot break the glass again."""

    id: str
    state: Literal["open", "settled"]
    person: str
    instance: LeasedInstance
    protocol: str
    reason: str
    ticket: str
    used_at: str
    issued: bool
    reviewed_by: str | None
    reviewed_at: str | None
    verdict: str | None
    review: str
    audit_index: int


class LockDocument(TypedDict):
    """A lock (`/v1/locks`); `until` is None when it lasts until it is removed."""

    id: str
    kind: Literal["user", "workload", "instance", "account"]
    target: str
    message: str
    created_by: str
    created_at: str
    until: str | None
    in_force: bool
    audit_index: int


class HostDocument(TypedDict):
    """One item of `GET /v1/hosts`; a key is written `<algorithm> <SHA-256 in hex>`."""

    account: str
    region: str
    name: str
    host_keys: list[str]
    audit_index: int
    offered: list[str]
    offered_audit_index: int | None


class AcceptedDocument(TypedDict):
    """The answer of `POST /v1/hosts/{account}/{region}/{name}/accept`."""

    host_keys: list[str]
    audit: ReceiptDocument
