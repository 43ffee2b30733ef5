"""The calls that mint credentials, out of CloudTrail's files (pure).

Shapes: `{"Records": […]}` as S3 delivers it, a record on each line, and `{"Events": [{"CloudTrailEvent": "…"}]}` as
`aws cloudtrail lookup-events` answers. "CloudTrail record contents" of its user guide says what is in a record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from sys import intern
from typing import BinaryIO, Final, NamedTuple

import orjson

from broker.audit.joining.files import STDIN, Unreadable
from broker.audit.leaves import milliseconds

EVENT_SOURCE: Final = "lightsail.amazonaws.com"
EVENT_NAME: Final = "GetInstanceAccessDetails"
MAX_DOCUMENT: Final = 256 * 1024 * 1024
"""Of one document, unpacked, in bytes; CloudTrail's own files stay far below."""
_SUFFIXES: Final = (".json", ".json.gz", ".jsonl", ".jsonl.gz")
_DIGESTS: Final = "CloudTrail-Digest"


class Call(NamedTuple):
    """One GetInstanceAccessDetails, served or refused. `time` is milliseconds since 1970; texts may be empty."""

    request_id: str
    event_id: str
    time: int
    principal: str
    """The ARN of whoever called."""
    role: str
    """The ARN of the role that was assumed for it."""
    address: str
    user_agent: str
    account: str
    """AWS's number of the account."""
    region: str
    instance: str
    protocol: str
    error: str
    """Empty when it was served: then a credential was minted."""


class Covered(NamedTuple):
    """From when to when there are records of a region, of whatever service; milliseconds since 1970."""

    first: int
    last: int


class Trail:
    """Reads documents; knows afterwards what they covered. `unread` counts records that are none."""

    def __init__(self) -> None:
        self.records = 0
        self.unread = 0
        self.covered: dict[str, Covered] = {}

    def calls(self, name: str, file: BinaryIO) -> Iterator[Call]:
        """Answer the minting calls of one file.

        Raises:
            Unreadable: when it is no JSON, or too long.
        """
        for document in _documents(name, file):
            for record in _records(document):
                self.records += 1
                call = self._read(record)
                if call is not None:
                    yield call

    def _read(self, record: object) -> Call | None:
        if not isinstance(record, dict):
            self.unread += 1
            return None
        region, source, name = (_text(record, member) for member in ("awsRegion", "eventSource", "eventName"))
        try:
            time = milliseconds(_text(record, "eventTime"))
        except (ValueError, OverflowError):
            self.unread += 1
            return None
        known = self.covered.get(region, Covered(time, time))
        self.covered[region] = Covered(min(known.first, time), max(known.last, time))
        return _call(record, region, time) if (source, name) == (EVENT_SOURCE, EVENT_NAME) else None


def files(name: str) -> Iterator[str]:
    """Answer what is to be read: a file as it is; of a directory its JSON files, as deep as S3 laid them."""
    if name == STDIN or not Path(name).is_dir():
        yield name
        return
    for path in sorted(Path(name).rglob("*")):
        if path.name.endswith(_SUFFIXES) and _DIGESTS not in path.relative_to(name).parts and path.is_file():
            yield str(path)


def _documents(name: str, file: BinaryIO) -> Iterator[object]:
    """Answer each line, when the first is a document of its own, else the whole file as one."""
    first = file.readline(MAX_DOCUMENT)
    try:
        document = orjson.loads(first)
    except orjson.JSONDecodeError:
        yield _parsed(name, first + file.read(MAX_DOCUMENT - len(first) + 1))
        return
    yield document
    while line := file.readline(MAX_DOCUMENT):
        if line.strip():
            yield _parsed(name, line)


def _parsed(name: str, text: bytes) -> object:
    if len(text) > MAX_DOCUMENT:
        raise Unreadable(f"{name}: longer than {MAX_DOCUMENT} bytes")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as problem:
        raise Unreadable(f"{name}: not JSON: {problem}") from None


def _records(document: object) -> Iterator[object]:
    if isinstance(document, list):
        yield from document
    elif isinstance(document, dict) and isinstance(records := document.get("Records"), list):
        yield from records
    elif isinstance(document, dict) and isinstance(events := document.get("Events"), list):
        yield from map(_looked_up, events)
    else:
        yield document


def _looked_up(event: object) -> object:
    text = event.get("CloudTrailEvent") if isinstance(event, dict) else None
    try:
        return orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError:
        return None


def _call(record: Mapping[str, object], region: str, time: int) -> Call:
    identity, asked = _table(record, "userIdentity"), _table(record, "requestParameters")
    issuer = _table(_table(identity, "sessionContext"), "sessionIssuer")
    return Call(
        request_id=_text(record, "requestID"),
        event_id=_text(record, "eventID"),
        time=time,
        principal=_text(identity, "arn") or _text(identity, "principalId") or _text(identity, "invokedBy"),
        role=_text(issuer, "arn"),
        address=_text(record, "sourceIPAddress"),
        user_agent=_text(record, "userAgent"),
        account=_text(record, "recipientAccountId") or _text(identity, "accountId"),
        region=region,
        instance=_text(asked, "instanceName"),
        protocol=_text(asked, "protocol") or "ssh",  # what AWS takes when none is named
        error=_text(record, "errorCode"),
    )


def _table(record: Mapping[str, object], name: str) -> Mapping[str, object]:
    member = record.get(name)
    return member if isinstance(member, dict) else {}


def _text(record: Mapping[str, object], name: str) -> str:
    member = record.get(name)
    return intern(member) if isinstance(member, str) else ""  # names, addresses and programs come again and again
