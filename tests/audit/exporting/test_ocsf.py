"""Every event, in every way it can end, as the published schema of OCSF has it."""

from __future__ import annotations

import base64
import json
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final, Union, get_args, get_origin

import pytest
from ocsf import OCSFBaseModel
from ocsf.v1_5_0 import events as schema

from broker.audit.events import document as event_document
from broker.audit.events import encode
from broker.audit.exporting import ocsf
from broker.audit.merkle import leaf_hash
from broker.audit.stores import StoredRecord
from broker.model import EVENTS, Event
from tests.doubles.audit import an_event

CLASSES: Final[Mapping[int, type[OCSFBaseModel]]] = {
    3002: schema.Authentication,
    3003: schema.AuthorizeSession,
    3004: schema.EntityManagement,
    6002: schema.ApplicationLifecycle,
    6003: schema.ApiActivity,
}
OUTCOMES = ("success", "failure", "denied", "unknown")


def record(event: Event, index: int = 7) -> StoredRecord:
    leaf = encode(event_document(event), index, "2026-01-31T09:30:00.123Z")
    return StoredRecord(index, leaf_hash(leaf), leaf)


def sparse(name: str, outcome: str) -> Event:
    """Make an event with nothing in it that may be absent."""
    return Event(event=name, outcome=outcome)  # type: ignore[arg-type]  # an outcome out of a table of texts


def written(event: Event) -> dict[str, Any]:
    line = ocsf.line(record(event))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    read: dict[str, Any] = json.loads(line)
    return read


def models_of(annotation: object) -> Iterator[type[OCSFBaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, OCSFBaseModel):
        yield annotation
    elif get_origin(annotation) in {list, Union, types.UnionType}:
        for part in get_args(annotation):
            yield from models_of(part)


def strangers(model: type[OCSFBaseModel], given: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Answer the attributes that the schema does not know: the models of the package let them pass."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for name, value in given.items():
        if name not in fields:
            yield f"{where}{name}"
        elif name != "unmapped":
            inner = next(models_of(fields[name].annotation), None)
            for item in value if isinstance(value, list) else [value]:
                if inner and isinstance(item, dict):
                    yield from strangers(inner, item, f"{where}{name}.")


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("make", [an_event, sparse], ids=["full", "sparse"])
def test_every_event_keeps_to_the_schema(make: Any, name: str, outcome: str) -> None:
    event = an_event(name, outcome=outcome) if make is an_event else sparse(name, outcome)
    given = written(event)
    model = CLASSES[given["class_uid"]]
    model.model_validate(given)
    assert list(strangers(model, given)) == []
    assert given["category_uid"] == given["class_uid"] // 1000
    assert given["type_uid"] == given["class_uid"] * 100 + given["activity_id"]
    assert given["metadata"]["version"] == ocsf.VERSION


def test_an_attribute_that_the_schema_does_not_know_would_be_found() -> None:
    given = written(an_event())
    odd = {**given, "colour": "blue", "metadata": {**given["metadata"], "sort": 1}}
    assert list(strangers(schema.AuthorizeSession, odd)) == ["metadata.sort", "colour"]


def test_every_event_has_a_class_of_its_own_choice() -> None:
    chosen = {name: written(sparse(name, "success"))["class_uid"] for name in EVENTS}
    assert chosen["credential.issued"] == chosen["credential.denied"] == 3003
    assert chosen["authentication.failures"] == 3002
    assert chosen["keys.added"] == 3004
    assert chosen["service.started"] == 6002
    assert chosen["audit.read"] == chosen["audit.exported"] == 6003
    assert set(ocsf._CLASSES) == set(EVENTS)  # noqa: SLF001 -- one that is forgotten would pass for API activity


@pytest.mark.parametrize(("outcome", "status"), list(zip(OUTCOMES, (1, 2, 2, 0), strict=True)))
def test_how_it_ended_is_its_status(outcome: str, status: int) -> None:
    assert written(an_event(outcome=outcome))["status_id"] == status


def test_nothing_of_an_event_is_lost() -> None:
    stored = record(an_event(reason="träge\u2028\n", ticket='"OPS"'))
    given = json.loads(ocsf.line(stored))
    assert given["unmapped"]["index"] == 7
    assert base64.b64decode(given["unmapped"]["leaf_hash"]) == stored.leaf_hash
    assert given["unmapped"]["event"] == json.loads(stored.leaf)


def test_what_a_siem_looks_for_is_where_it_looks() -> None:
    given = written(an_event("credential.issued"))
    assert given["metadata"]["uid"] == "7"
    assert given["time"] == 1769851800123
    assert given["user"]["name"] == "corp/alice"
    assert given["src_endpoint"]["ip"] == "203.0.113.9"
    assert given["dst_endpoint"]["name"] == "main/eu-west-1/web-1"


def test_an_emergency_weighs_more_than_what_is_usual() -> None:
    usual, refused = written(an_event()), written(an_event(outcome="denied"))
    urgent = written(an_event(break_glass=True))
    assert usual["severity_id"] < refused["severity_id"] < urgent["severity_id"]
