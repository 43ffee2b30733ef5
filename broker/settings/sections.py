"""The tables of the settings file, their keys and their defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from broker.settings.values import (
    Algorithm,
    AwsRegion,
    Claim,
    Database,
    Duration,
    EventPattern,
    ListenAddress,
    MasterKey,
    Network,
    OptionalSecretSource,
    OptionalWebAddress,
    Origin,
    PublicUrl,
    Region,
    Resource,
    Scope,
    SecretSource,
    ShortName,
    SigningKey,
    SyslogAddress,
    TimeZone,
    WebAddress,
    WitnessKey,
    is_loopback,
)


class Section(BaseModel):
    """A table of the file: frozen, and nothing in it is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Server(Section):
    """`[server]`: where and how the service listens."""

    listen: ListenAddress = "127.0.0.1:8443"
    tls_certificate: Path | None = None
    tls_private_key: Path | None = None
    client_ca: Path | None = None
    trusted_proxies: tuple[Network, ...] = ()
    public_urls: tuple[PublicUrl, ...] = ()
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    linger: Duration = timedelta(0)

    @property
    def host(self) -> str:
        """The address to listen on, without the brackets of IPv6."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port to listen on; 0 lets the system pick one."""
        return int(self.listen.rpartition(":")[2])

    @model_validator(mode="after")
    def _coherent(self) -> Server:
        if (self.tls_certificate is None) != (self.tls_private_key is None):
            raise ValueError("tls_certificate and tls_private_key: give both or neither")
        if self.tls_certificate is None and not is_loopback(self.host):
            raise ValueError("without tls_certificate and tls_private_key it may listen on a loopback address only")
        return self


class Issuer(Section):
    """`[[issuers]]`: who may vouch for a caller."""

    name: ShortName
    issuer: WebAddress
    audience: Annotated[str, Field(min_length=1)]
    jwks_file: Path | None = None
    jwks_uri: WebAddress | None = None
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "PS256", "ES256", "EdDSA")
    principal: Literal["user", "workload"] = "user"
    subject_claim: Annotated[str, Field(min_length=1)] = "sub"
    groups_claim: str = "groups"
    token_types: Annotated[tuple[str, ...], Field(min_length=1)] = ("at+jwt",)
    max_token_age: Duration = timedelta(hours=12)
    require: Mapping[str, Claim] = Field(default_factory=dict)
    mfa_acr: tuple[str, ...] = ()
    require_binding: bool = False
    cli_client_id: str = ""
    cli_scopes: tuple[Scope, ...] = ("openid", "offline_access")
    cli_resource: Resource = ""

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> Issuer:
        if self.jwks_file and self.jwks_uri:
            raise ValueError("jwks_file and jwks_uri: give one of them, or neither for discovery")
        return self


class Account(Section):
    """`[[accounts]]`: an AWS account, or an emulator, where instances live."""

    name: ShortName
    regions: Annotated[tuple[Region, ...], Field(min_length=1)]
    role_arn: str = ""
    external_id: str = ""
    endpoint_url: OptionalWebAddress = ""


class Policies(Section):
    """`[policies]`: where the Cedar policies are, and by which clocks `context.local` goes."""

    directory: Path = Path("policies")
    time_zone: TimeZone = "UTC"


class Keys(Section):
    """`[keys]`: custody of the RSA keys that open Windows passwords."""

    directory: Path = Path("state/keys")
    master_key: MasterKey = "file:state/master.key"


# What each kind of anchor needs, and what else it knows.
_ANCHORS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "file": (frozenset({"path"}), frozenset()),
    "s3": (
        frozenset({"bucket", "region"}),
        frozenset({"prefix", "retention", "role_arn", "external_id", "endpoint_url"}),
    ),
    "syslog": (frozenset({"address"}), frozenset()),
    "witness": (frozenset({"url", "key", "path"}), frozenset({"allow_private"})),
}
_MIN_RETENTION = timedelta(days=1)


class Anchor(Section):
    """`[[audit.anchors]]`: a place elsewhere that is given every checkpoint. Which keys it has depends on the kind."""

    name: ShortName
    kind: Literal["file", "s3", "syslog", "witness"]
    required: bool = False
    path: Path | None = None
    bucket: str = ""
    prefix: str = ""
    region: AwsRegion | None = None
    retention: Duration = timedelta(days=365)
    role_arn: str = ""
    external_id: str = ""
    endpoint_url: OptionalWebAddress = ""
    address: SyslogAddress | None = None
    url: WebAddress | None = None
    key: WitnessKey | None = None
    allow_private: bool = False

    @model_validator(mode="after")
    def _of_its_kind(self) -> Anchor:
        needed, known = _ANCHORS[self.kind]
        given = {name for name in self.model_fields_set if getattr(self, name) not in {None, ""}}
        problems = [f"{name}: an anchor of kind {self.kind} needs it" for name in sorted(needed - given)]
        strange = self.model_fields_set - needed - known - {"name", "kind", "required"}
        problems += [f"{name}: an anchor of kind {self.kind} has none" for name in sorted(strange)]
        if self.retention < _MIN_RETENTION:
            problems.append("retention: it is at least 1d")
        if problems:
            raise ValueError("; ".join(problems))
        return self


class Audit(Section):
    """`[audit]`: the log, its signing key, and its name in the checkpoints."""

    database: Database = "sqlite:///state/audit.db"
    signing_key: SigningKey = "file:state/audit.key"
    origin: Origin
    anchors: tuple[Anchor, ...] = ()


class Limits(Section):
    """`[limits]`: how much one caller, and all together, may ask."""

    per_caller_per_minute: Annotated[int, Field(ge=1)] = 30
    issues_per_caller_per_minute: Annotated[int, Field(ge=0)] = 30
    instances_per_caller_per_hour: Annotated[int, Field(ge=0)] = 20
    failures_per_peer_per_minute: Annotated[int, Field(ge=0)] = 1200
    concurrent_requests: Annotated[int, Field(ge=1)] = 256
    connections: Annotated[int, Field(ge=1)] = 4096
    connections_per_peer: Annotated[int, Field(ge=1)] = 256


class Console(Section):
    """`[console]`: signing in to the audit review page."""

    issuer: str = ""
    client_id: str = ""
    client_secret: OptionalSecretSource = ""


class Webhook(Section):
    """`[[notify.webhooks]]`: a receiver of notices. With `tags`, an instance must have had all of them."""

    name: ShortName
    url: WebAddress
    secret: SecretSource
    events: Annotated[tuple[EventPattern, ...], Field(min_length=1)]
    tags: Mapping[str, str] = Field(default_factory=dict)
    allow_private: bool = False

    @field_validator("url")
    @classmethod
    def _nothing_but_a_place(cls, url: str) -> str:
        if "@" in urlsplit(url).netloc or "#" in url:
            raise ValueError("write it without a user, a password and a fragment")
        return url


class Notify(Section):
    """`[notify]`: who is told about requests and alarms; so many denials within this time are a burst."""

    webhooks: tuple[Webhook, ...] = ()
    denied_burst: Annotated[int, Field(ge=2, le=1000)] = 5
    denied_burst_within: Duration = timedelta(minutes=10)


class Traces(Section):
    """`[traces]`: the collector of OpenTelemetry that takes traces by OTLP over HTTP, if any."""

    endpoint: OptionalWebAddress = ""


class Settings(Section):
    """The whole file."""

    server: Server = Field(default_factory=Server)
    issuers: Annotated[tuple[Issuer, ...], Field(min_length=1)]
    accounts: Annotated[tuple[Account, ...], Field(min_length=1)]
    policies: Policies = Field(default_factory=Policies)
    keys: Keys = Field(default_factory=Keys)
    audit: Audit
    limits: Limits = Field(default_factory=Limits)
    console: Console = Field(default_factory=Console)
    notify: Notify = Field(default_factory=Notify)
    traces: Traces = Field(default_factory=Traces)

    @model_validator(mode="after")
    def _coherent(self) -> Settings:
        problems = [
            *_repeated("issuers.name", [issuer.name for issuer in self.issuers]),
            *_repeated("issuers.issuer", [issuer.issuer for issuer in self.issuers]),
            *_repeated("accounts.name", [account.name for account in self.accounts]),
            *_repeated("audit.anchors.name", [anchor.name for anchor in self.audit.anchors]),
            *_repeated("notify.webhooks.name", [webhook.name for webhook in self.notify.webhooks]),
        ]
        if self.console.issuer and self.console.issuer not in {issuer.name for issuer in self.issuers}:
            problems.append("console.issuer: there is no issuer of this name")
        if self.console.issuer and not self.console.client_id:
            problems.append("console.client_id: the console signs in as an OAuth client of the provider")
        if any(each.require_binding for each in self.issuers if each.name == self.console.issuer):
            problems.append("console.issuer: it has require_binding, and a browser cannot prove a key")
        if self.server.workers > 1 and self.audit.database.startswith("sqlite:"):
            problems.append("server.workers: more than one needs the PostgreSQL audit store")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _repeated(path: str, names: Sequence[str]) -> list[str]:
    return [f"{path}: {name!r} stands more than once" for name in sorted({n for n in names if names.count(n) > 1})]


TABLES: Mapping[str, type[Section]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
LISTS: Mapping[str, type[Section]] = {
    name: get_args(field.annotation)[0] for name, field in Settings.model_fields.items() if name not in TABLES
}


def keys_of(section: str) -> frozenset[str]:
    """Answer the keys that a table knows."""
    return frozenset({**TABLES, **LISTS}[section].model_fields)
