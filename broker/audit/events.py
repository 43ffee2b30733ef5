"""From an event to its canonical bytes: JSON by RFC 8785, bounded and clean, whatever a caller sent.

The contract's shape: members that are absent or empty are left out. Whole numbers of 64 bits are written as text, since
JSON's numbers are exact only up to 2**53 (RFC 8785, 3.2.2.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

import orjson

from broker.model import Caller, CredentialFacts, Decision, Event, InstanceRef, Source, rfc3339

Document = dict[str, object]
"""An event as JSON has it. Keys are ASCII, numbers are whole: there orjson writes what RFC 8785 asks for."""

MAX_TEXT = 1024
MAX_REASON = 4096
MAX_ITEMS = 256
MAX_TAGS = 50
MAX_TAG_NAME = 128
MAX_TAG = 256
MAX_INTEGER = 2**53 - 1

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_MEMBER = re.compile(r"[A-Za-z0-9_.:/-]{1,128}", re.ASCII)


def document(event: Event) -> Document:
    """Answer the event as a document, still without its place and time.

    Raises:
        TypeError: for a detail that is no text, whole number, truth value, list of texts or table of counts.
        ValueError: for a number or a member's name that canonical JSON cannot hold.
    """
    texts = {
        "event": event.event,
        "outcome": event.outcome,
        "request_id": event.request_id,
        "target": event.target,
        "ticket": event.ticket,
        "lease_id": event.lease_id,
        "upstream_request_id": event.upstream_request_id,
        "error": event.error,
    }
    members: Document = {name: clean(text) for name, text in texts.items() if text}
    members |= {
        "actor": _actor(event.actor),
        "source": _source(event.source),
        "instance": _instance(event.instance, event.tags),
        "protocol": event.protocol.value if event.protocol else None,
        "reason": clean(event.reason, MAX_REASON),
        "break_glass": event.break_glass,
        "decision": _decision(event.decision),
        "expires_at": rfc3339(event.expires_at) if event.expires_at else None,
        "credential": _credential(event.credential),
        "details": _details(event.details) if event.details else None,
    }
    return _filled(members)


def outcome_unknown(requested: Mapping[str, object]) -> Document:
    """Answer what closes a request of which nobody knows how it ended: a crash came between."""
    closing = {name: value for name, value in requested.items() if name not in {"index", "time", "details"}}
    return closing | {"event": "credential.failed", "outcome": "unknown", "error": "outcome_unknown"}


def encode(members: Document, index: int, time: str) -> bytes:
    """Write a document with its place and time as canonical JSON (RFC 8785)."""
    return orjson.dumps(members | {"index": index, "time": time}, option=orjson.OPT_SORT_KEYS)


def decode(leaf: bytes) -> Document:
    """Read back what `encode` wrote.

    Raises:
        ValueError: when it is not one JSON object.
    """
    members = orjson.loads(leaf)
    if not isinstance(members, dict):
        raise ValueError("an event is not a JSON object")  # noqa: TRY004 -- the one kind of error that this function has
    return members


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """Bound a text to `limit` characters and replace NUL and lone surrogates, which no store takes."""
    if len(text) <= limit and text.isascii() and "\x00" not in text:
        return text
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return _UNSTORABLE.sub("\ufffd", text)


def _filled(members: Document) -> Document:
    return {name: value for name, value in members.items() if value}


def _texts(texts: Iterable[str]) -> list[str]:
    cleaned = [clean(text) for text in texts]
    if len(cleaned) > MAX_ITEMS:
        omitted = len(cleaned) - MAX_ITEMS + 1
        cleaned[MAX_ITEMS - 1 :] = [f"… {omitted} more"]
    return cleaned


@lru_cache(maxsize=4096)
def _actor(actor: Caller | None) -> Document | None:
    if actor is None:
        return None
    return _filled(
        {
            "issuer": clean(actor.issuer),
            "subject": clean(actor.subject),
            "kind": actor.kind,
            "groups": _texts(actor.groups),
            "token_id": clean(actor.token_id),
        }
    )


def _source(source: Source | None) -> Document | None:
    if source is None:
        return None
    return _filled({"ip": clean(source.ip), "user_agent": clean(source.user_agent)})


def _instance(instance: InstanceRef | None, tags: Mapping[str, str]) -> Document | None:
    if instance is None:
        return None
    place: Document = {
        "account": clean(instance.account),
        "region": clean(instance.region),
        "name": clean(instance.name),
    }
    return place | {"tags": _tags(tags)} if tags else place


def _tags(tags: Mapping[str, str]) -> Document:
    """Keep the tags that AWS allows (50, of 128 and 256 characters). A name that is not ASCII is written escaped."""
    names = sorted(tags)[:MAX_TAGS]
    return {_ascii(clean(name, MAX_TAG_NAME)): clean(tags[name], MAX_TAG) for name in names}


def _ascii(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode()


def _decision(decision: Decision | None) -> Document | None:
    if decision is None:
        return None
    return _filled({"policies": _texts(decision.policies), "digest": clean(decision.digest)})


def _credential(facts: CredentialFacts | None) -> Document | None:
    if facts is None:
        return None
    return _filled(
        {
            "certificate_serial": None if facts.certificate_serial is None else str(facts.certificate_serial),
            "key_id": clean(facts.key_id),
            "public_key_sha256": clean(facts.public_key_sha256),
            "key_pair": clean(facts.key_pair),
        }
    )


def _details(details: Mapping[str, object]) -> Document:
    return {_member(name): _detail(value) for name, value in details.items()}


def _detail(value: object) -> object:
    match value:
        case str():
            return clean(str(value))
        case bool():
            return value
        case int():
            return _integer(value)
        case tuple():
            return _texts(value)
        case Mapping():
            return {_member(name): _integer(count) for name, count in value.items()}
    raise TypeError(f"a detail cannot be of {type(value).__name__}")


def _integer(value: object) -> int:
    if not isinstance(value, int) or not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise ValueError("a number in an event is whole and within 2**53")
    return int(value)


def _member(name: str) -> str:
    if not _MEMBER.fullmatch(name):
        raise ValueError("a member of an event has a short ASCII name")
    return name
