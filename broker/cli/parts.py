"""Whether the libraries at hand are those that the service was made for: too old a one is refused at the start."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Final

_DISTRIBUTION: Final = "lightsail-credential-broker"
_FLOOR: Final = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)(?:; extra == ['\"](\w+)['\"])?")


def floors() -> Mapping[str, str]:
    """Answer the lowest version of each library of the service, as our own metadata names them."""
    found = (_FLOOR.fullmatch(line) for line in metadata.requires(_DISTRIBUTION) or ())
    return {match[1]: match[2] for match in found if match and match[3] in {None, "server"}}


def problems(lowest: Mapping[str, str] | None = None, parser: str | None = None) -> Iterator[str]:
    """Answer what is missing, too old, or without the part that is written in C.

    Args:
        lowest: versions by names; by default `floors`.
        parser: the module of aiohttp's parser; by default that which it took.
    """
    from broker.errors import KeysUnavailable
    from broker.unsealing.passwords import check_openssl

    for name, floor in (floors() if lowest is None else lowest).items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield f"{name} {floor} or newer is needed, and it is not installed"
            continue
        if _numbers(version) < _numbers(floor):
            yield f"{name} {floor} or newer is needed, and this is {version}"
    try:
        check_openssl()
    except KeysUnavailable as problem:
        yield problem.cause
    if (parser or _parser()) != "aiohttp._http_parser":
        yield "aiohttp parses HTTP in pure Python, which is slower and less strict: install its wheel"


def _parser() -> str:
    from broker.web.connections import PARSER

    return PARSER


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])
