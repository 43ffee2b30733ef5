"""What a single value may be, and what to write instead."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, timedelta, tzinfo
from difflib import get_close_matches
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator

from broker.audit.stores.address import objection
from broker.model import LIGHTSAIL_REGIONS
from broker.outbound.notices import unknown_patterns

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


def zone(name: str) -> tzinfo:
    """Answer a time zone by its name in the IANA database; UTC needs none.

    Raises:
        ValueError: there is no such zone, or no database on this machine.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError(f"{name!r} is no time zone here: write one like Europe/Berlin{_no_database()}") from None


def _no_database() -> str:
    return "" if available_timezones() else "; this machine has no time zones: install tzdata"


def _time_zone(name: str) -> str:
    zone(name)
    return name


def _short_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", text):
        raise ValueError(f"{text!r} is not a short name: use 1 to 63 lower-case letters, digits and '-'")
    return text


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ValueError("use https (http only on a loopback address)")
    return text


def _public_url(text: str) -> str:
    parts = urlsplit(_web_address(text))
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("write scheme, host and port alone, like https://broker.example.com")
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
    if problem := objection(text):
        raise ValueError(problem)
    return text


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _event_pattern(text: str) -> str:
    for problem in unknown_patterns([text]):
        raise ValueError(problem)
    return text


def _region(text: str) -> str:
    if text not in LIGHTSAIL_REGIONS:
        close = get_close_matches(text, LIGHTSAIL_REGIONS, n=1)
        raise ValueError(f"Lightsail is not offered in a region {text!r}" + guess(close))
    return text


def _aws_region(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}(-[a-z]{2,16}){1,3}-[0-9]", text):
        raise ValueError(f"{text!r} is not a region: write one like eu-west-1")
    return text


def _syslog_address(text: str) -> str:
    found = re.fullmatch(r"/.+|(udp|tcp)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?", text)
    if not found or int(found[3] or 0) > 65535:  # noqa: PLR2004 - the largest port
        raise ValueError("write the path of a socket like /dev/log, udp://HOST:514 or tcp://HOST:601")
    return text


def _witness_key(text: str) -> str:
    if not re.fullmatch(r"[^\s+]{1,200}\+[0-9a-f]{8}\+[A-Za-z0-9+/]+=*", text):
        raise ValueError("write the verifier key of the witness: name+hash+key")
    return text


def _scope(text: str) -> str:
    if not re.fullmatch(r"[!#-\[\]-~]+", text):
        raise ValueError("a scope is one word of printable ASCII without quotes and backslashes (RFC 6749)")
    return text


def _resource(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s#]+", text):
        raise ValueError("a resource indicator is an absolute URI without a fragment (RFC 8707)")
    return text


def guess(close: Sequence[str]) -> str:
    """Ask whether a near name was meant."""
    return f"; did you mean {close[0]}?" if close else ""


Duration = Annotated[timedelta, BeforeValidator(_duration)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
ShortName = Annotated[str, AfterValidator(_short_name)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
SecretSource = Annotated[str, AfterValidator(_secret_source)]
EventPattern = Annotated[str, AfterValidator(_event_pattern)]
Claim = Annotated[str | int | bool, BeforeValidator(_claim)]
Database = Annotated[str, AfterValidator(_database)]
ListenAddress = Annotated[str, AfterValidator(_listen)]
MasterKey = Annotated[str, AfterValidator(_master_key)]
OptionalSecretSource = Annotated[str, AfterValidator(_optional_secret_source)]
Origin = Annotated[str, AfterValidator(_origin)]
SigningKey = Annotated[str, AfterValidator(_signing_key)]
OptionalWebAddress = Annotated[str, AfterValidator(_web_address_or_none)]
Network = Annotated[str, AfterValidator(_network)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
Scope = Annotated[str, AfterValidator(_scope)]
Resource = Annotated[str, AfterValidator(_resource)]
Region = Annotated[str, AfterValidator(_region)]
AwsRegion = Annotated[str, AfterValidator(_aws_region)]
SyslogAddress = Annotated[str, AfterValidator(_syslog_address)]
WitnessKey = Annotated[str, AfterValidator(_witness_key)]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
