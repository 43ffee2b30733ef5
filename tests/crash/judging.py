"""What must hold between a log, the bytes that people got, and what AWS was asked for, whatever happened."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from tests.crash.ground import PASSWORD, Reply

Events = Sequence[Mapping[str, Any]]
_SECRETS = (b"PRIVATE KEY", PASSWORD.encode())
_EVENT_OF = {201: "credential.issued", 403: "credential.denied", 409: "credential.failed"}


def contradictions(events: Events, replies: Iterable[Reply], asked: Sequence[str]) -> Iterator[str]:
    """Answer a sentence for everything that does not fit. `asked` names the instance of every call that can mint."""
    for reply in replies:
        yield from _unrecorded(events, reply)
    requested = [_instance(event) for event in events if event["event"] == "credential.requested"]
    for instance in set(asked):
        if asked.count(instance) > requested.count(instance):
            yield f"{instance}: AWS was asked {asked.count(instance)} times, {requested.count(instance)} are on record"
    for event in events:
        if event["event"] == "credential.requested":
            yield from _not_closed_once(events, event)


def _unrecorded(events: Events, reply: Reply) -> Iterator[str]:
    """Blame an answer, or the first part of one, whose event is not there as the answer says."""
    if not reply.status:
        if reply.raw:
            yield f"{reply.instance}: {reply.raw[:80]!r} is no answer"
        return
    if reply.status != 201 and any(secret in reply.raw for secret in _SECRETS):
        yield f"{reply.instance}: a secret in an answer {reply.status}"
    if reply.status not in _EVENT_OF:
        return
    name = _EVENT_OF[reply.status]
    found = [event for event in events if (event["event"], _instance(event)) == (name, reply.instance)]
    if len(found) != 1:
        yield f"{reply.instance}: answered {reply.status}, but {len(found)} events {name}"
    else:
        yield from _differing(found[0], reply)


def _differing(event: Mapping[str, Any], reply: Reply) -> Iterator[str]:
    header = re.search(rb"\r\nX-Request-Id: (\w+)\r\n", reply.raw)
    if header and header[1].decode() != event["request_id"]:
        yield f"{reply.instance}: the event is that of another request"
    document = reply.document
    if receipt := document.get("audit"):
        told = (receipt["index"], base64.b64decode(receipt["leaf_hash"]))
        if told != (event["index"], event["leaf_hash"]):
            yield f"{reply.instance}: the receipt does not name its event"
    if ssh := document.get("ssh"):
        certificate = load_ssh_public_identity(ssh["certificate"].encode())
        assert isinstance(certificate, SSHCertificate)
        if str(certificate.serial) != event["credential"]["certificate_serial"]:
            yield f"{reply.instance}: the certificate is not the one on record"


def _not_closed_once(events: Events, requested: Mapping[str, Any]) -> Iterator[str]:
    closing = [
        event["event"]
        for event in events
        if event.get("request_id") == requested["request_id"]
        and event["event"] in {"credential.issued", "credential.failed"}
    ]
    if len(closing) != 1:
        yield f"{_instance(requested)}: closed by {closing}"


def _instance(event: Mapping[str, Any]) -> str:
    return str(event.get("instance", {}).get("name", ""))
