"""From bytes to checked values: strict JSON, strict query strings, honest addresses (pure)."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Final, TypeVar, get_origin
from urllib.parse import parse_qsl

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, ValidationError

from broker.errors import InvalidRequest
from broker.web.problems import describe
from broker.web.routes import Input

MAX_BODY = 16 * 1024
"""Bytes of a request's body."""
_MAX_DEPTH = 8
_MAX_FIELDS = 256

M = TypeVar("M", bound=Input)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_HOP = re.compile(r"\[(.+)\](?::\d+)?|([0-9.]+)(?::\d+)?", re.ASCII)
"""An address of a header, to which a proxy may add brackets and a port."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
KEY_SCHEMA: Final = {"type": "string", "maxLength": 200, "pattern": "^[ -~]*$"}
"""Of an Idempotency-Key."""
_KEY = re.compile(r"[ -~]{0,200}", re.ASCII)


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


def form(model: type[M], content_type: str, raw: bytes) -> tuple[M, str]:
    """Read a form of a page; answer it with its form token. A field that was left empty is absent.

    Raises:
        InvalidRequest: not a form in UTF-8, unknown or repeated fields, or wrong types.
    """
    if raw and content_type != "application/x-www-form-urlencoded":
        raise InvalidRequest(detail="The body must be a form.")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise InvalidRequest(detail="The body is not a form.") from None
    ticked: dict[str, list[str]] = {name: [] for name in _repeatable(model)}
    single = [(name, value) for name, value in pairs if name not in ticked]
    fields: dict[str, object] = dict(single)
    if len(fields) != len(single):
        raise InvalidRequest(detail="A field stands more than once.")
    for name, value in pairs:
        if name in ticked:
            ticked[name].append(value)
    token = str(fields.pop("form_token", ""))
    fields |= ticked
    return _check(model, {name: value for name, value in fields.items() if value}), token


def _repeatable(model: type[Input]) -> Iterable[str]:
    """Answer the fields that a form may have several times: what boxes were ticked."""
    return (name for name, field in model.model_fields.items() if get_origin(field.annotation) is tuple)


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


def idempotency_key(values: Sequence[str]) -> str:
    """Answer the one Idempotency-Key, or nothing.

    Raises:
        InvalidRequest: it could be taken for another one, being too long, not printable or one of several.
    """
    if len(values) > 1 or not all(_KEY.fullmatch(value) for value in values):
        raise InvalidRequest(detail="Idempotency-Key takes at most 200 printable ASCII characters, once.")
    return values[0] if values else ""


def source_ip(
    peer: str,
    x_forwarded_for: Sequence[str] = (),
    forwarded: Sequence[str] = (),
    trusted: Sequence[Network] = (),
) -> str:
    """Answer the address nearest to us that is not one of our proxies.

    Args:
        peer: who is at the other end of the connection.
        x_forwarded_for: lines of that header, which counts only behind a trusted proxy.
        forwarded: the `for` of each element of Forwarded (RFC 7239), likewise. A proxy writes one of the two headers
            and lets the other pass as it came, so when they disagree neither is believed.
        trusted: the networks of our proxies.
    """
    if not trusted:
        return _peer(peer)
    address = address_of(peer)
    if address is None:
        return peer
    hops = [hop.strip() for line in x_forwarded_for for hop in line.split(",")]
    routes = [route for route in (hops, list(forwarded)) if route]
    found = {_beyond(address, route, trusted) for route in routes}
    return str(found.pop() if len(found) == 1 else address)


@lru_cache(maxsize=4096)
def _peer(text: str) -> str:
    return str(address_of(text) or text)


def _beyond(address: _Address, hops: list[str], trusted: Sequence[Network]) -> _Address:
    while hops and any(address in network for network in trusted):
        hop = hops.pop()
        match = _HOP.fullmatch(hop)
        before = address_of(match[1] or match[2] if match else hop)
        if before is None:
            break
        address = before
    return address


@lru_cache(maxsize=4096)
def address_of(text: str) -> _Address | None:
    """Read an address; one of IPv4 that came by a socket of IPv6 is one of IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def one_line(text: str) -> str:
    """Answer a text that can be shown anywhere as it is, without space around it; raises ValueError for any other."""
    if not text.isprintable():
        raise ValueError("use printable characters on one line")
    return text.strip()


def _something(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def _written(value: object) -> object:
    """Take no bare number for a time: nobody knows whether it counts seconds or milliseconds."""
    if isinstance(value, str) and not _DATE.match(value):
        raise ValueError("write a time with its zone, like 2026-01-31T09:30:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_written)]
"""A time of RFC 3339."""
Line = Annotated[str, Field(max_length=500), AfterValidator(one_line)]
"""What people write for people: a reason, a ticket, a message."""
Words = Annotated[Line, AfterValidator(_something)]
"""The same where something has to be said."""


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
