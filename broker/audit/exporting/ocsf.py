"""Events as the Open Cybersecurity Schema Framework has them, version 1.5 (https://schema.ocsf.io/1.5.0).

Each event is of the class that a SIEM looks for it in; `metadata.uid` is its index, and `unmapped` keeps index, leaf
hash and the whole event.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Final, NamedTuple

from broker.audit.leaves import SearchColumns, parse, search_columns
from broker.audit.stores import StoredRecord

VERSION: Final = "1.5.0"


class _Class(NamedTuple):
    category_uid: int
    class_uid: int


_AUTHENTICATION: Final = _Class(3, 3002)
_AUTHORIZE_SESSION: Final = _Class(3, 3003)
_ENTITY_MANAGEMENT: Final = _Class(3, 3004)
_APPLICATION_LIFECYCLE: Final = _Class(6, 6002)
_API_ACTIVITY: Final = _Class(6, 6003)

_LOGON, _LOGOFF, _ASSIGN, _OTHER = 1, 2, 1, 99
_CREATE, _READ, _UPDATE, _DELETE = 1, 2, 3, 4
_START, _STOP = 3, 4

_CLASSES: Final[Mapping[str, tuple[_Class, int]]] = {
    "audit.exported": (_API_ACTIVITY, _READ),
    "audit.key_rotated": (_ENTITY_MANAGEMENT, _UPDATE),
    "audit.migrated": (_ENTITY_MANAGEMENT, _UPDATE),
    "audit.pruned": (_ENTITY_MANAGEMENT, _DELETE),
    "audit.read": (_API_ACTIVITY, _READ),
    "audit.rebuilt": (_ENTITY_MANAGEMENT, _UPDATE),
    "audit.reviewed": (_ENTITY_MANAGEMENT, _UPDATE),
    "audit.verified": (_API_ACTIVITY, _READ),
    "authentication.failures": (_AUTHENTICATION, _LOGON),
    "break_glass.refused": (_ENTITY_MANAGEMENT, _UPDATE),
    "break_glass.reviewed": (_ENTITY_MANAGEMENT, _UPDATE),
    "break_glass.used": (_AUTHORIZE_SESSION, _OTHER),
    "budget.exhausted": (_API_ACTIVITY, _OTHER),
    "console.link_made": (_AUTHENTICATION, _OTHER),
    "console.link_used": (_AUTHENTICATION, _LOGON),
    "console.signed_in": (_AUTHENTICATION, _LOGON),
    "console.signed_out": (_AUTHENTICATION, _LOGOFF),
    "credential.denied": (_AUTHORIZE_SESSION, _ASSIGN),
    "credential.failed": (_AUTHORIZE_SESSION, _ASSIGN),
    "credential.issued": (_AUTHORIZE_SESSION, _ASSIGN),
    "credential.requested": (_AUTHORIZE_SESSION, _OTHER),
    "credential.withheld": (_AUTHORIZE_SESSION, _OTHER),
    "host_keys.accepted": (_ENTITY_MANAGEMENT, _UPDATE),
    "host_keys.refused": (_ENTITY_MANAGEMENT, _UPDATE),
    "keys.added": (_ENTITY_MANAGEMENT, _CREATE),
    "keys.removed": (_ENTITY_MANAGEMENT, _DELETE),
    "keys.rewrapped": (_ENTITY_MANAGEMENT, _UPDATE),
    "lock.created": (_ENTITY_MANAGEMENT, _CREATE),
    "lock.expired": (_ENTITY_MANAGEMENT, _DELETE),
    "lock.refused": (_AUTHORIZE_SESSION, _ASSIGN),
    "lock.removed": (_ENTITY_MANAGEMENT, _DELETE),
    "policies.loaded": (_ENTITY_MANAGEMENT, _UPDATE),
    "policies.refused": (_ENTITY_MANAGEMENT, _UPDATE),
    "request.approved": (_ENTITY_MANAGEMENT, _UPDATE),
    "request.cancelled": (_ENTITY_MANAGEMENT, _UPDATE),
    "request.created": (_ENTITY_MANAGEMENT, _CREATE),
    "request.denied": (_ENTITY_MANAGEMENT, _UPDATE),
    "request.expired": (_ENTITY_MANAGEMENT, _UPDATE),
    "request.refused": (_ENTITY_MANAGEMENT, _UPDATE),
    "service.started": (_APPLICATION_LIFECYCLE, _START),
    "service.stopped": (_APPLICATION_LIFECYCLE, _STOP),
    "spool.rejected": (_API_ACTIVITY, _CREATE),
}
_STATUS: Final = {"unknown": 0, "success": 1, "failure": 2, "denied": 2}
_INFORMATIONAL, _LOW, _MEDIUM = 1, 2, 3
_PRODUCT: Final = {"name": "Lightsail Credential Broker", "vendor_name": "Lightsail Credential Broker"}


def line(record: StoredRecord) -> bytes:
    """Write one event as one line."""
    return json.dumps(document(record), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def document(record: StoredRecord) -> dict[str, object]:
    """Answer one event as an OCSF object; an event that is not known here is API activity."""
    members = parse(record.leaf)
    columns = search_columns(members)
    kind, activity = _CLASSES.get(columns.event, (_API_ACTIVITY, _OTHER))
    status = _STATUS.get(columns.outcome, _OTHER)
    written: dict[str, object] = {
        "category_uid": kind.category_uid,
        "class_uid": kind.class_uid,
        "type_uid": kind.class_uid * 100 + activity,
        "activity_id": activity,
        # The names of numbers are the schema's own; only what it does not know is named here.
        "activity_name": columns.event if activity == _OTHER else None,
        "time": columns.time,
        "severity_id": _severity(members, columns.outcome),
        "status_id": status,
        "status": columns.outcome if status == _OTHER else None,
        "status_code": columns.outcome,
        "status_detail": members.get("error"),
        "message": _message(members, columns.event),
        "metadata": _metadata(record, columns),
        **_subject(kind, members, columns),
        "unmapped": {
            "index": record.idx,
            "leaf_hash": base64.b64encode(record.leaf_hash).decode(),
            "event": members,
        },
    }
    return {name: value for name, value in written.items() if value is not None}


def _metadata(record: StoredRecord, columns: SearchColumns) -> dict[str, object]:
    correlated = {"correlation_uid": columns.request_id} if columns.request_id else {}
    return {
        "version": VERSION,
        "product": _PRODUCT,
        "log_name": "audit",
        "uid": str(record.idx),
        "event_code": columns.event,
        **correlated,
    }


def _subject(kind: _Class, members: Mapping[str, object], columns: SearchColumns) -> dict[str, object]:
    """Answer what a class says of who did it, from where, and to what."""
    if kind == _APPLICATION_LIFECYCLE:
        return {"app": _PRODUCT}
    user = _user(members, columns.actor)
    ip = _object(members, "source").get("ip")
    common: dict[str, object] = {"actor": {"user": user}, **({"src_endpoint": {"ip": ip}} if ip else {})}
    name = columns.instance or str(members.get("target", "")) or columns.event
    if kind == _AUTHORIZE_SESSION:
        privilege = str(members.get("protocol", "access"))
        return {**common, "user": user, "privileges": [privilege], "dst_endpoint": {"name": name}}
    if kind == _ENTITY_MANAGEMENT:
        return {**common, "entity": {"name": name, "type": columns.event.partition(".")[0]}}
    if kind == _AUTHENTICATION:
        return {**common, "user": user, "service": {"name": _PRODUCT["name"]}}
    # This class must say from where; a command runs where the log is.
    return {"src_endpoint": {"name": "localhost"}, **common, "api": {"operation": columns.event}}


def _user(members: Mapping[str, object], actor: str) -> dict[str, object]:
    name = actor or _operator(members)
    groups = _object(members, "actor").get("groups")
    named = {"groups": [{"name": str(group)} for group in groups]} if isinstance(groups, list) else {}
    return {"name": name, "uid": name, **named}


def _severity(members: Mapping[str, object], outcome: str) -> int:
    if members.get("break_glass") or members.get("error") == "host_key_changed":
        return _MEDIUM
    return _INFORMATIONAL if outcome == "success" else _LOW


def _message(members: Mapping[str, object], event: str) -> str:
    parts = [event, *(str(members[name]) for name in ("ticket", "reason") if members.get(name))]
    return ": ".join(parts)


def _operator(members: Mapping[str, object]) -> str:
    return str(_object(members, "details").get("os_user", "")) or "broker"


def _object(members: Mapping[str, object], name: str) -> Mapping[str, object]:
    member = members.get(name)
    return member if isinstance(member, Mapping) else {}
