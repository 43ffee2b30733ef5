"""The fixture: what the embedded Lightsail serves, from TOML or from plain values."""

from __future__ import annotations

import re
import secrets
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from broker.emulator.catalogue import BLUEPRINTS, Blueprint, Bundle, bundles_of
from broker.emulator.fixture_values import (
    CertificateFile,
    Duration,
    HostKeyFile,
    Ipv4,
    Ipv6,
    RegionName,
    ResourceName,
    RsaKeyFile,
    duration,
)

DEFAULT_KEY_PAIR: Final = "LightsailDefaultKeyPair"

State = Literal["pending", "running", "shutting-down", "terminated", "stopping", "stopped"]

_FAULT_KIND: Final = re.compile(r"throttle|malformed|drop|error:[A-Za-z]{1,80}|delay:.+|status:[2345]\d\d", re.ASCII)

_M = TypeVar("_M", bound=BaseModel)


class FixtureError(Exception):
    """A fixture that cannot be served; `problems` are sentences, each beginning with the path of its value."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KeyPairFixture(_Strict):
    """A key pair; `private_key` is made when missing. Named LightsailDefaultKeyPair it is the Region's default one.

    `imported` chooses the fingerprint that AWS gives to an imported key over that of one it created.
    """

    name: ResourceName
    region: RegionName
    private_key: RsaKeyFile
    imported: bool = False


class FaultFixture(_Strict):
    """Something that goes wrong: `throttle`, `error:<Type>`, `delay:<duration>`, `malformed`, `drop`, `status:<code>`.

    "" matches every operation and every instance; `times` 0 means for ever.
    """

    operation: str = ""
    instance: str = ""
    kind: str
    times: Annotated[int, Field(ge=0)] = 0

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if not _FAULT_KIND.fullmatch(kind):
            raise ValueError("must be throttle, error:<Type>, delay:<duration>, malformed, drop or status:<code>")
        if kind.startswith("delay:"):
            duration(kind.removeprefix("delay:"))
        return kind


class InstanceFixture(_Strict):
    """An instance. Without host keys, certificate or password these are made at start."""

    name: ResourceName
    region: RegionName
    blueprint: str
    bundle: str
    state: State = "running"
    public_ip: Ipv4 = "127.0.0.1"
    ipv6: tuple[Ipv6, ...] = ()
    tags: Annotated[Mapping[str, Annotated[str, StringConstraints(max_length=256)]], Field(max_length=50)] = {}
    host_keys: tuple[HostKeyFile, ...] = ()
    rdp_certificate: CertificateFile | None = None
    username: str = ""
    certificate_lifetime: Duration = timedelta(seconds=780)
    key_pair: str = ""
    password: str = Field(default="", repr=False)
    ready_after: Duration = timedelta(0)

    @property
    def blueprint_of(self) -> Blueprint:
        """What it was made from."""
        return BLUEPRINTS[self.blueprint]

    @property
    def bundle_of(self) -> Bundle:
        """Its size."""
        return bundles_of(self.region)[self.bundle]

    @property
    def login(self) -> str:
        """Who one logs in as."""
        return self.username or self.blueprint_of.username

    @property
    def key_pair_name(self) -> str:
        """The name of its key pair, the Region's default one where none was named."""
        return self.key_pair or DEFAULT_KEY_PAIR

    @field_validator("blueprint")
    @classmethod
    def _blueprint_exists(cls, blueprint: str) -> str:
        if blueprint not in BLUEPRINTS:
            raise ValueError("is not a blueprint")
        return blueprint

    @model_validator(mode="before")
    @classmethod
    def _no_ipv4_where_none_is_sold(cls, values: Any) -> Any:  # noqa: ANN401 - pydantic gives what was written
        bundle = values.get("bundle") if isinstance(values, dict) else None
        if isinstance(bundle, str) and "_ipv6_" in bundle and "public_ip" not in values:
            return values | {"public_ip": ""}
        return values

    @model_validator(mode="after")
    def _belongs_together(self) -> InstanceFixture:
        if problems := list(self._contradictions()):
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        bundle = bundles_of(self.region).get(self.bundle)
        is_windows = self.blueprint_of.platform == "WINDOWS"
        if bundle is None:
            yield f"bundle is not sold in {self.region}"
        elif bundle.platform != self.blueprint_of.platform:
            yield "bundle does not support the platform of the blueprint"
        elif not bundle.has_ipv4 and self.public_ip:
            yield "public_ip is given, but the bundle has no IPv4 address"
        if is_windows and self.host_keys:
            yield "host_keys are for ssh; Windows takes rdp_certificate"
        if not is_windows and self.rdp_certificate:
            yield "rdp_certificate is for Windows"
        if not is_windows and self.password:
            yield "password is for Windows"
        if any(not 1 <= len(key) <= 128 for key in self.tags):  # noqa: PLR2004 - the rule of AWS tags
            yield "tags have keys of 1 to 128 characters"


def _made_up_secret() -> str:
    return secrets.token_urlsafe(30)


class Fixture(_Strict):
    """All that is served. Build it by `read` or `of`, which say everything that is wrong at once."""

    access_key_id: Annotated[str, StringConstraints(pattern=r"^\w{3,128}$")] = "AKIDEMULATOR"
    secret_access_key: Annotated[str, StringConstraints(min_length=1)] = Field(default="emulator-secret", repr=False)
    account_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{12}$")] = "123456789012"
    ssh_ca: RsaKeyFile = Field(default=Path("ca"), validate_default=True)
    page_size: Annotated[int, Field(ge=1, le=1000)] = 5
    key_pairs: tuple[KeyPairFixture, ...] = ()
    instances: tuple[InstanceFixture, ...] = ()
    faults: tuple[FaultFixture, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Fixture:
        """Read a TOML file; paths in it are relative to it. Raises FixtureError."""
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise FixtureError([f"{path}: cannot be read: {error.strerror}"]) from error
        except ValueError as error:
            raise FixtureError([f"{path}: is not TOML: {error}"]) from error
        return cls.of(values, path.parent)

    @classmethod
    def of(cls, values: Mapping[str, Any], directory: Path) -> Fixture:
        """Build it from plain values of the same form; `directory` is what paths are relative to.

        Raises:
            FixtureError: With every problem, each beginning with its path.
        """
        problems = list(_contradictions(values, directory))
        try:
            fixture = cls.model_validate(values, context={"directory": directory})
        except ValidationError as error:
            raise FixtureError([*_sentences(error), *problems]) from error
        if problems:
            raise FixtureError(problems)
        return fixture


def parse_faults(values: object) -> tuple[FaultFixture, ...]:
    """Read one fault or a list of them; raises FixtureError."""
    try:
        return tuple(FaultFixture.model_validate(value) for value in (values if isinstance(values, list) else [values]))
    except ValidationError as error:
        raise FixtureError(_sentences(error)) from error


def _sentences(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_input=False):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
        yield f"{path or 'fixture'}: {problem['msg'].removeprefix('Value error, ')}"


def _contradictions(values: Mapping[str, Any], directory: Path) -> Iterator[str]:
    """Tell what is wrong between entries that are each right by themselves."""
    key_pairs = _valid(KeyPairFixture, values, "key_pairs", directory)
    instances = _valid(InstanceFixture, values, "instances", directory)
    taken: dict[tuple[str, str], str] = {}
    names = [(where, entry.region, entry.name) for where, entry in key_pairs]
    names += [(where, entry.region, entry.name) for where, entry in instances]
    for where, region, name in names:
        first = taken.setdefault((region, name), where)
        if first != where:
            yield f"{where}.name: is already the name of {first} in {region}"
    known = {(pair.region, pair.name) for _, pair in key_pairs}
    for where, instance in instances:
        if instance.key_pair_name != DEFAULT_KEY_PAIR and (instance.region, instance.key_pair) not in known:
            yield f"{where}.key_pair: there is no such key pair in {instance.region}"


def _valid(model: type[_M], values: Mapping[str, Any], name: str, directory: Path) -> list[tuple[str, _M]]:
    entries = values.get(name, ())
    valid = []
    for index, entry in enumerate(entries if isinstance(entries, (list, tuple)) else ()):
        with suppress(ValidationError):
            valid.append((f"{name}[{index}]", model.model_validate(entry, context={"directory": directory})))
    return valid
