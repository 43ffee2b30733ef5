"""The kinds of values in a fixture: names, durations, files that must hold what they should."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from broker.emulator.hostkeys import rdp_certificate_file, ssh_host_key_file
from broker.emulator.keys import read_private_key
from broker.emulator.names import is_resource_name
from broker.emulator.regions import REGIONS

_DURATION: Final = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?", re.ASCII)


def duration(text: object) -> timedelta:
    """Read `90s`, `1h30m`, `250ms`; a timedelta passes as it is. Raises ValueError."""
    if isinstance(text, timedelta):
        return text
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None or not any(match.groups()):
        raise ValueError("must be a duration such as '90s', '1h30m' or '250ms'")
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)


def _resource_name(text: str) -> str:
    if not is_resource_name(text):
        raise ValueError("must be 2 to 255 letters, digits, '.', '-' or '_', first and last a letter or digit")
    return text


def _region(text: str) -> str:
    if text not in REGIONS:
        raise ValueError("is not a Region where Lightsail is offered")
    return text


def _ipv4(text: str) -> str:
    return str(ipaddress.IPv4Address(text)) if text else text


def _ipv6(text: str) -> str:
    return str(ipaddress.IPv6Address(text))


def _beside_the_fixture(path: Path, info: ValidationInfo) -> Path:
    directory = (info.context or {}).get("directory", Path())
    return Path(directory).absolute() / path


def _holds(read: Callable[[Path], object], *, may_be_missing: bool = False) -> AfterValidator:
    def check(path: Path) -> Path:
        if may_be_missing and not path.exists():
            return path
        try:
            read(path)
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"does not hold what it should: {error}") from error
        return path

    return AfterValidator(check)


ResourceName = Annotated[str, AfterValidator(_resource_name)]
RegionName = Annotated[str, AfterValidator(_region)]
Ipv4 = Annotated[str, AfterValidator(_ipv4)]
Ipv6 = Annotated[str, AfterValidator(_ipv6)]
Duration = Annotated[timedelta, BeforeValidator(duration)]
FixturePath = Annotated[Path, AfterValidator(_beside_the_fixture)]
RsaKeyFile = Annotated[FixturePath, _holds(read_private_key, may_be_missing=True)]
HostKeyFile = Annotated[FixturePath, _holds(ssh_host_key_file)]
CertificateFile = Annotated[FixturePath, _holds(rdp_certificate_file)]
