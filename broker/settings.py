"""Settings: one TOML file, overridden by `BROKER__SECTION__KEY`, checked as a whole, frozen.

Every problem is reported at once, with its path (`issuers.0.audience`). Unknown keys are errors, in the file and in
the environment alike. Paths inside the file are relative to the file. Read by `cli` and `wiring` only.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from broker.model import LIGHTSAIL_REGIONS

PREFIX = "BROKER__"
_SEPARATOR = "__"


class SettingsError(Exception):
    """The settings cannot be used. `problems` lists every fault, each with its path.

    `path` is the file, where the faults are of what stands in it.
    """

    def __init__(self, problems: Sequence[str], path: Path | None = None) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
        self.path = path


_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Read `90s`, `15m`, `1h30m`, `2d`.

    Raises:
        ValueError: it is not of that form, or empty.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError("write a duration like 90s, 15m or 1h30m")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a network: write one like 10.0.0.0/8") from None
    return text


def _short_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", text):
        raise ValueError(f"{text!r} is not a short name: use 1 to 63 lower-case letters, digits and '-'")
    return text


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ValueError("use https (http only on a loopback address)")
    return text


def _web_address_or_none(text: str) -> str:
    return _web_address(text) if text else text


def _master_key(text: str) -> str:
    if not text.startswith(("file:", "env:", "kms:")):
        raise ValueError("use file:PATH, env:NAME or kms:ARN")
    return text


def _signing_key(text: str) -> str:
    if not text.startswith("file:"):
        raise ValueError("use file:PATH")
    return text


def _secret_source(text: str) -> str:
    if not re.fullmatch(r"(file|env):.+", text):
        raise ValueError("use file:PATH or env:NAME; the secret itself does not stand here")
    return text


def _optional_secret_source(text: str) -> str:
    return _secret_source(text) if text else text


def _origin(text: str) -> str:
    if not re.fullmatch(r"[^\s+]{1,200}", text):
        raise ValueError(
            f"{text!r} is not a name for checkpoints: write one like broker.example.com/audit, without spaces and '+'"
        )
    return text


def _listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:  # noqa: PLR2004 - the largest port
        raise ValueError(f"{text!r} is not ADDRESS:PORT, such as 127.0.0.1:8443")
    return text


def _claim(value: object) -> object:
    if not isinstance(value, str | int | bool):
        raise ValueError("write text, a whole number, true or false")  # noqa: TRY004 - pydantic's way to refuse
    return value


def _database(text: str) -> str:
    if not text.startswith(("sqlite:///", "postgresql://")):
        raise ValueError("use sqlite:///PATH or postgresql://…")
    return text


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _region(text: str) -> str:
    if text not in LIGHTSAIL_REGIONS:
        close = get_close_matches(text, LIGHTSAIL_REGIONS, n=1)
        raise ValueError(f"Lightsail is not offered in a region {text!r}" + _guess(close))
    return text


def _guess(close: Sequence[str]) -> str:
    return f"; did you mean {close[0]}?" if close else ""


Duration = Annotated[timedelta, BeforeValidator(_duration)]
ShortName = Annotated[str, AfterValidator(_short_name)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
SecretSource = Annotated[str, AfterValidator(_secret_source)]
Claim = Annotated[str | int | bool, BeforeValidator(_claim)]
Network = Annotated[str, AfterValidator(_network)]
Region = Annotated[str, AfterValidator(_region)]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class Section(BaseModel):
    """A table of the file: frozen, and nothing in it is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Server(Section):
    """`[server]`: where and how the service listens."""

    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:8443"
    tls_certificate: Path | None = None
    tls_private_key: Path | None = None
    client_ca: Path | None = None
    trusted_proxies: tuple[Network, ...] = ()
    workers: Annotated[int, Field(ge=1, le=64)] = 1

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
    endpoint_url: Annotated[str, AfterValidator(_web_address_or_none)] = ""


class Policies(Section):
    """`[policies]`: where the Cedar policies are."""

    directory: Path = Path("policies")


class Keys(Section):
    """`[keys]`: custody of the RSA keys that open Windows passwords."""

    directory: Path = Path("state/keys")
    master_key: Annotated[str, AfterValidator(_master_key)] = "file:state/master.key"


class Audit(Section):
    """`[audit]`: the log, its signing key, and its name in the checkpoints."""

    database: Annotated[str, AfterValidator(_database)] = "sqlite:///state/audit.db"
    signing_key: Annotated[str, AfterValidator(_signing_key)] = "file:state/audit.key"
    origin: Annotated[str, AfterValidator(_origin)]


class Limits(Section):
    """`[limits]`: how much one caller, and all together, may ask."""

    per_caller_per_minute: Annotated[int, Field(ge=1)] = 30
    instances_per_caller_per_hour: Annotated[int, Field(ge=1)] = 20
    concurrent_requests: Annotated[int, Field(ge=1)] = 256


class Console(Section):
    """`[console]`: signing in to the audit review page."""

    issuer: str = ""
    client_id: str = ""
    client_secret: Annotated[str, AfterValidator(_optional_secret_source)] = ""


class Webhook(Section):
    """One receiver of notices."""

    url: WebAddress
    secret: SecretSource
    events: tuple[str, ...] = ()


class Notify(Section):
    """`[notify]`: who is told about requests and alarms."""

    webhooks: tuple[Webhook, ...] = ()


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

    @model_validator(mode="after")
    def _coherent(self) -> Settings:
        problems = [
            *_repeated("issuers.name", [issuer.name for issuer in self.issuers]),
            *_repeated("issuers.issuer", [issuer.issuer for issuer in self.issuers]),
            *_repeated("accounts.name", [account.name for account in self.accounts]),
        ]
        if self.console.issuer and self.console.issuer not in {issuer.name for issuer in self.issuers}:
            problems.append("console.issuer: there is no issuer of this name")
        if self.server.workers > 1 and self.audit.database.startswith("sqlite:"):
            problems.append("server.workers: more than one needs the PostgreSQL audit store")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _repeated(path: str, names: Sequence[str]) -> list[str]:
    return [f"{path}: {name!r} stands more than once" for name in sorted({n for n in names if names.count(n) > 1})]


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read, override, check and freeze the settings.

    Raises:
        SettingsError: every problem at once, each with its path.
    """
    document = _read(path)
    problems = _override(document, environment)
    _anchor(document, path.resolve().parent)
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        problems += _describe_all(error.errors(include_url=False, include_input=False))
    else:
        if not problems:
            return settings
    raise SettingsError(problems, path)


def without_effect(settings: Settings) -> list[str]:
    """Name what is set, but does nothing in this version: nobody shall rely on it."""
    fields = {
        "limits.instances_per_caller_per_hour": "instances_per_caller_per_hour" in settings.limits.model_fields_set,
        "console": bool(settings.console.issuer or settings.console.client_id),
        "notify.webhooks": bool(settings.notify.webhooks),
        "server.client_ca": settings.server.client_ca is not None,
    }
    return [f"{name} has no effect in this version" for name, is_set in fields.items() if is_set]


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise SettingsError([f"{path}: there is no such file; `broker init` writes one"]) from None
    except OSError as error:
        raise SettingsError([f"{path}: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: not TOML: {error}"]) from None


def _describe_all(faults: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe each fault, but not that a list is too short because its only element is wrong."""
    places = [fault["loc"] for fault in faults]
    deeper = {place[:length] for place in places for length in range(1, len(place))}
    return [_describe(fault) for fault in faults if fault["type"] != "too_short" or fault["loc"] not in deeper]


def _describe(fault: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    what = _sentence(fault)
    return f"{where}: {what}" if where else what


_SENTENCES = {
    "missing": "is missing",
    "string_type": "write text",
    "string_too_short": "must not be empty",
    "path_type": "write a path",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "int_type": "write a whole number",
    "int_parsing": "write a whole number",
    "int_from_float": "write a whole number",
    "tuple_type": "write a list",
    "too_short": "must not be empty",
    "mapping_type": "write a table",
    "dict_type": "write a table",
    "model_type": "write a table",
    "time_delta_type": "write a duration like 90s, 15m or 1h30m",
    "literal_error": "write {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}
"""Pydantic's kinds of faults, in the words of whoever writes a settings file."""


def _sentence(fault: Mapping[str, Any]) -> str:
    kind, place = str(fault["type"]), fault["loc"]
    if kind == "extra_forbidden":
        return _no_such_setting([str(part) for part in place])
    if kind in _SENTENCES:
        return _SENTENCES[kind].format_map(fault.get("ctx", {}))
    return str(fault["msg"]).removeprefix("Value error, ")


def _no_such_setting(path: Sequence[str]) -> str:
    """Guess at the part that is wrong: the section, or else the last one."""
    section, name = path[0], path[-1]
    if section not in Settings.model_fields:
        close = get_close_matches(section, Settings.model_fields, n=1)
    else:
        close = [] if name in _keys(section) else get_close_matches(name, _keys(section), n=1)
    return "there is no such setting" + _guess(close)


def _override(document: dict[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Lay `BROKER__…` variables over the document; answer those that name no setting."""
    problems = []
    for name in sorted(environment):
        if name.startswith(PREFIX):
            path = name.removeprefix(PREFIX).lower().split(_SEPARATOR)
            if not _place(document, path, _literal(environment[name])):
                problems.append(f"{name}: {_no_such_setting(path)}")
    return problems


def _literal(text: str) -> object:
    """Read lists and tables as JSON, everything else as text, which pydantic turns into numbers and truth values."""
    if text[:1] in {"[", "{"}:
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _place(document: dict[str, Any], path: Sequence[str], value: object) -> bool:
    """Put a value at `section, key` or `section, index, key`; False when there is no such place."""
    section = path[0]
    field = Settings.model_fields.get(section)
    if field is None:
        return False
    match path[1:]:
        case [key] if key in _keys(section):
            target = document.setdefault(section, {})
        case [index, key] if index.isdecimal() and key in _keys(section) and section in _LISTS:
            target = _element(document.setdefault(section, []), int(index))
        case _:
            return False
    if not isinstance(target, dict):
        return False
    target[key] = value
    return True


def _element(items: object, index: int) -> object:
    if not isinstance(items, list) or index > len(items):
        return None
    if index == len(items):
        items.append({})
    return items[index]


_TABLES: Mapping[str, type[Section]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
_LISTS: Mapping[str, type[Section]] = {
    name: get_args(field.annotation)[0] for name, field in Settings.model_fields.items() if name not in _TABLES
}


def _keys(section: str) -> frozenset[str]:
    return frozenset({**_TABLES, **_LISTS}[section].model_fields)


# What names a file, and how a path stands in it: these become absolute, relative to the settings file.
_PATHS = (
    ("server", "tls_certificate", ""),
    ("server", "tls_private_key", ""),
    ("server", "client_ca", ""),
    ("policies", "directory", ""),
    ("keys", "directory", ""),
    ("keys", "master_key", "file:"),
    ("audit", "database", "sqlite:///"),
    ("audit", "signing_key", "file:"),
    ("console", "client_secret", "file:"),
)


def _anchor(document: dict[str, Any], folder: Path) -> None:
    """Make every path absolute, defaults included."""
    for section, key, prefix in _PATHS:
        table = document.setdefault(section, {})
        if isinstance(table, dict):
            field = _TABLES[section].model_fields[key]
            text = table.get(key, None if field.is_required() else field.get_default())
            if isinstance(text, str | Path) and str(text).startswith(prefix):
                table[key] = prefix + str(folder / str(text).removeprefix(prefix))
    for issuer in document.get("issuers", []) if isinstance(document.get("issuers"), list) else []:
        if isinstance(issuer, dict) and isinstance(issuer.get("jwks_file"), str):
            issuer["jwks_file"] = str(folder / issuer["jwks_file"])
