from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.model import EVENTS, rfc3339
from broker.outbound.notices import NAMES, Burst, Bursts, Notice, Selection, Told, notices, unknown_patterns

START = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
RULE = Burst(3, timedelta(minutes=10))


def told(name: str, index: int = 7, minutes: float = 0, /, **members: Any) -> Told:
    event = {"event": name, "index": index, "time": rfc3339(START + timedelta(minutes=minutes)), **members}
    return Told("broker.example/audit", index, hashlib.sha256(str(event).encode()).digest(), event)


def denied(index: int, minutes: float, subject: str = "mallory") -> Told:
    return told("credential.denied", index, minutes, actor={"issuer": "corp", "subject": subject})


def names(event: Told, *patterns: str, **tags: str) -> list[str]:
    return [notice.type for notice in notices(event, Selection(patterns, tags), Bursts(RULE))]


def on(**tags: str) -> dict[str, Any]:
    return {"instance": {"account": "main", "region": "eu-west-1", "name": "web-1", "tags": tags}}


def test_a_notice_has_what_finds_and_proves_its_event() -> None:
    event = told("credential.issued", reason="to look at its logs")
    (notice,) = notices(event, Selection(["credential.issued"]), Bursts(RULE))
    body = json.loads(notice.body())
    assert body["type"] == "credential.issued"
    assert body["timestamp"] == "2026-01-31T09:30:00.000Z"
    assert body["data"]["event"] == event.event
    assert (body["data"]["log"], body["data"]["index"]) == ("broker.example/audit", 7)
    assert notice.body().isascii()


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("credential.issued", 1),
        ("credential.*", 1),
        ("*", 1),
        ("*.issued", 1),
        ("credential.denied", 0),
        ("host_keys.*", 0),
        ("credential", 0),
    ],
)
def test_events_are_chosen_by_name_or_pattern(pattern: str, wanted: int) -> None:
    assert len(names(told("credential.issued"), pattern)) == wanted


def test_a_pattern_that_fits_nothing_is_refused_with_the_names_there_are() -> None:
    assert unknown_patterns(["*", "credential.*", "break_glass.*", "log_fault", "denied_burst"]) == []
    (problem,) = unknown_patterns(["credential.issue"])
    assert "did you mean credential.issued?" in problem
    assert all(name in problem for name in NAMES)
    assert set(EVENTS) < set(NAMES)


def test_operators_are_told_of_every_name_beside_those_of_events() -> None:
    guide = (Path(__file__).parents[2] / "docs/operating.md").read_text()
    section = guide.partition("\n## Notices")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z_.]+)` \|", section, re.MULTILINE)) == set(NAMES) - set(EVENTS)


def test_tags_narrow_what_is_about_an_instance_and_nothing_else() -> None:
    prod, test, bare = (
        told("credential.issued", **on(**tags)) for tags in ({"env": "prod", "a": "b"}, {"env": "t"}, {})
    )
    assert names(prod, "*", env="prod") == ["credential.issued"]
    assert names(test, "*", env="prod") == names(bare, "*", env="prod") == []
    assert names(prod, "*", env="prod", team="x") == []
    assert names(told("service.started"), "*", env="prod") == ["service.started"]


def test_a_changed_host_key_is_told() -> None:
    assert names(told("credential.failed", error="host_key_changed"), "host_key_changed") == ["host_key_changed"]
    assert names(told("credential.failed", error="upstream_error"), "host_key_changed") == []


def test_the_id_of_a_notice_is_its_own_and_always_the_same_and_has_no_dot() -> None:
    events = [told("credential.failed", index, error="host_key_changed") for index in range(3)]

    def ids() -> list[str]:
        return [notice.id for event in events for notice in notices(event, Selection(["*"]), Bursts(RULE))]

    assert ids() == ids()
    assert len(set(ids())) == 6
    assert not any("." in each for each in ids())


def bursts(*events: Told, state: Bursts | None = None) -> list[Notice]:
    state = state or Bursts(RULE)
    return [
        notice for event in events for notice in notices(event, Selection(["denied_burst"], {"env": "prod"}), state)
    ]


def test_a_burst_of_denials_is_told_once() -> None:
    (notice,) = bursts(*(denied(index, index) for index in range(8)))
    assert notice.data["denials"] == [0, 1, 2]
    assert notice.data["within_seconds"] == 600


def test_after_a_pause_there_is_a_new_burst() -> None:
    found = bursts(*(denied(index, minutes) for index, minutes in enumerate([0, 1, 2, 3, 30, 31, 32, 33])))
    assert [notice.data["denials"] for notice in found] == [[0, 1, 2], [4, 5, 6]]


def test_denials_of_several_people_or_over_a_long_time_are_no_burst() -> None:
    assert bursts(*(denied(index, index, f"person-{index % 3}") for index in range(6))) == []
    assert bursts(*(denied(index, 5 * index) for index in range(9))) == []
    assert bursts(*(told("credential.issued", index) for index in range(9))) == []
    assert bursts(*(told("credential.denied", index) for index in range(9))) == []


def test_a_burst_is_told_whatever_the_tags_of_the_instances_were() -> None:
    events = [
        told("credential.denied", n, 0, actor={"issuer": "corp", "subject": "m"}, **on(env="t")) for n in range(3)
    ]
    assert [notice.type for notice in bursts(*events)] == ["denied_burst"]


@given(st.lists(st.tuples(st.integers(0, 900), st.sampled_from("ab")), max_size=40), st.integers(0, 40))
def test_whoever_begins_anywhere_finds_the_same_bursts(steps: list[tuple[int, str]], start: int) -> None:
    """Who looks back for twice the time of a burst comes to what one who read everything comes to."""
    events, minutes = [], 0.0
    for index, (seconds, subject) in enumerate(steps):
        minutes += seconds / 60
        events.append(denied(index, minutes, subject))
    everything = [notice.id for notice in bursts(*events)]
    state = Bursts(RULE)
    for event in events[:start]:
        if str(event.event["time"]) >= rfc3339(START + timedelta(minutes=_time(events, start) - 20)):
            state.take(event.index, event.event)
    late = [notice.id for notice in bursts(*events[start:], state=state)]
    assert late == everything[len(everything) - len(late) :]
    assert len(late) == len([n for n in bursts(*events) if int(str(n.data["index"])) >= start])


def _time(events: list[Told], start: int) -> float:
    if start >= len(events):
        return 0
    moment = datetime.fromisoformat(str(events[start].event["time"]))
    return (moment - START).total_seconds() / 60


def test_the_memory_for_denials_is_bounded() -> None:
    state = Bursts(RULE)
    for index in range(10_100):
        state.take(index, denied(index, 0, f"person-{index}").event)
    assert bursts(denied(10_100, 0, "person-0"), denied(10_101, 0, "person-0"), state=state) == [], "was forgotten"
    assert len(bursts(denied(10_102, 0, "person-9999"), denied(10_103, 0, "person-9999"), state=state)) == 1
