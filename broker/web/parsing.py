"""From bytes to checked values: strict JSON, strict query strings, honest addresses (pure)."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Sequence
from typing import TypeVar

from pydantic import ValidationError

from broker.errors import InvalidRequest
from broker.web.problems import describe
from broker.web.routes import Input

MAX_BODY = 16 * 1024
"""Bytes of a request's body."""
_MAX_DEPTH = 8

M = TypeVar("M", bound=Input)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def body(model: type[M], content_type: str, raw: bytes) -> M:
    """Read a JSON object.

    Raises:
        InvalidRequest: not JSON in UTF-8, duplicate or unknown members, wrong types, too deep, or not declared as JSON.
    """
    if not raw:
        return _check(model, {})
    if content_type != "application/json":
        raise InvalidRequest(detail="The body must be application/json.")
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError):
        raise InvalidRequest(detail="The body is not one JSON object with distinct members.") from None
    if not isinstance(document, dict) or not _is_shallow(document):
        raise InvalidRequest(detail="The body is not one JSON object of moderate depth.")
    return _check(model, document)


def query(model: type[M], pairs: Iterable[tuple[str, str]]) -> M:
    """Read the query string.

    Raises:
        InvalidRequest: unknown or repeated parameters, or wrong types.
    """
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise InvalidRequest(detail="A query parameter stands more than once.")
        values[name] = value
    return _check(model, values)


def source_ip(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """Answer the address nearest to us that is not one of our proxies; X-Forwarded-For counts only behind them."""
    hops = [hop.strip() for line in forwarded_for for hop in line.split(",")]
    address = peer
    while hops and _is_trusted(address, trusted):
        candidate = hops.pop()
        try:
            address = str(ipaddress.ip_address(candidate))
        except ValueError:
            break
    return address


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    ip = ipaddress.ip_address(address)
    return any(ip in network for network in trusted)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _constant(name: str) -> float:
    raise ValueError(name)


def _is_shallow(value: object, levels: int = _MAX_DEPTH) -> bool:
    """Tell whether no object or array is nested deeper; never looks deeper itself."""
    if isinstance(value, dict):
        value = [*value.values()]
    return not isinstance(value, list) or (levels > 0 and all(_is_shallow(item, levels - 1) for item in value))


def _check(model: type[M], values: object) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest(detail=describe(error)) from None
