"""Callers and instances in Cedar's terms. Pure, and on the hot path.

Everything is built as JSON, never as Cedar text, so a name with quotes, backslashes or `::` in it stays that name.
`keys` are the entity itself, its type and its ancestors, written `Type::id`: what a policy's scope can ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

import orjson

from broker.model import Instance, rfc3339

if TYPE_CHECKING:
    from datetime import datetime

    from broker.model import Caller, RequestContext

Uid = dict[str, str]


@dataclass(frozen=True, slots=True)
class Entity:
    """One side of a question. `document` is the Cedar JSON of the entity and of the ancestors it needs."""

    uid: Uid
    keys: tuple[str, ...]
    document: str


@lru_cache(maxsize=4096)
def principal_entity(caller: Caller) -> Entity:
    """Describe a caller: `User::"issuer/subject"` or `Workload::"…"` in `Group::"issuer/group"`.

    Raises:
        ValueError: a `/` in the issuer's name, or text that UTF-8 cannot carry.
    """
    prefix = _without_slash(caller.issuer)
    kind = "User" if caller.kind == "user" else "Workload"
    uid = {"type": kind, "id": f"{prefix}/{caller.subject}"}
    groups = [f"{prefix}/{group}" for group in caller.groups]
    attributes: dict[str, object] = {
        "issuer": caller.issuer,
        "subject": caller.subject,
        "groups": caller.groups,
    }
    if caller.email is not None:
        attributes["email"] = caller.email
    parents = [{"type": "Group", "id": group} for group in groups]
    keys = (f"{kind}::{uid['id']}", kind, *(f"Group::{group}" for group in dict.fromkeys(groups)))
    return Entity(uid, keys, _json([{"uid": uid, "attrs": attributes, "parents": parents}]))


def resource_entity(resource: Instance | str) -> Entity:
    """Describe what is asked for: an instance in its region and account, or an account by its name.

    Raises:
        ValueError: a `/` in the name of account or region, or text that UTF-8 cannot carry.
    """
    return _instance_entity(resource) if isinstance(resource, Instance) else _account_entity(resource)


def _account_entity(name: str) -> Entity:
    uid = {"type": "Account", "id": _without_slash(name)}
    return Entity(uid, (f"Account::{name}", "Account"), _json([{"uid": uid, "attrs": {}, "parents": []}]))


def _instance_entity(instance: Instance) -> Entity:
    ref = instance.ref
    place = f"{_without_slash(ref.account)}/{_without_slash(ref.region)}"
    uid = {"type": "Instance", "id": str(ref)}
    region = {"type": "Region", "id": place}
    attributes = {
        "name": ref.name,
        "account": ref.account,
        "region": ref.region,
        "platform": instance.platform.value,
        "blueprint": instance.blueprint,
        "bundle": instance.bundle,
        "key_pair": instance.key_pair,
        "state": instance.state,
    }
    document = [
        {"uid": uid, "attrs": attributes, "tags": dict(instance.tags), "parents": [region]},
        {"uid": region, "attrs": {}, "parents": [{"type": "Account", "id": ref.account}]},
    ]
    keys = (f"Instance::{ref}", "Instance", f"Region::{place}", f"Account::{ref.account}")
    return Entity(uid, keys, _json(document))


def context_document(caller: Caller, context: RequestContext) -> str:
    """Write the request's context as Cedar JSON; `login_age` is left out when nobody knows it."""
    members: dict[str, object] = {
        "now": {"__extn": {"fn": "datetime", "arg": rfc3339(context.now)}},
        "local": _local(context.now.astimezone(context.zone)),
        "source": {"__extn": {"fn": "ip", "arg": plain_address(context.source_ip)}},
        "mfa": caller.mfa,
        "bound": caller.bound,
        "reason": context.reason,
        "ticket": context.ticket,
        "approvals": context.approvals,
        "break_glass": context.break_glass,
    }
    if caller.authenticated_at is not None:
        # A login "in the future" is a clock that differs within the leeway: as fresh as can be.
        members["login_age"] = max(0, int((context.now - caller.authenticated_at).total_seconds()))
    return _json(members)


def _local(now: datetime) -> dict[str, object]:
    return {"hour": now.hour, "minute": now.minute, "weekday": now.isoweekday(), "date": now.date().isoformat()}


def plain_address(address: str) -> str:
    """Write a peer's address as policies do: IPv4 stays IPv4 on a dual-stack socket, and there is no zone.

    Raises:
        ValueError: this is not an IPv6 address, though it has a colon.
    """
    if ":" not in address:
        return address
    parsed = IPv6Address(address.partition("%")[0])
    return str(parsed.ipv4_mapped or parsed)


def _without_slash(name: str) -> str:
    # `a/b` + `c` and `a` + `b/c` would be the same entity.
    if "/" in name:
        raise ValueError("a name of an issuer, account or region holds a slash")
    return name


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
