from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.audit.leaves import milliseconds, search_columns
from broker.model import rfc3339

SHORT = st.text("0123456789-+:.TZ \u0661_", max_size=2)
MEMBER = st.none() | st.integers() | st.lists(st.just("x"), max_size=1) | st.sampled_from(["", "a", "b/c"])
NAMES = ("issuer", "subject", "account", "region", "name", "event", "outcome", "request_id")
NESTED = st.dictionaries(st.sampled_from(NAMES), MEMBER)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 -- bounds are naive
def test_times_are_milliseconds_since_1970(moment: datetime) -> None:
    assert milliseconds(rfc3339(moment)) == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@given(st.integers(0, 24), st.integers(0, 3), SHORT)
@example(16, 1, "+")
@example(0, 10, "2026-W05-6")
def test_what_is_no_time_is_refused(at: int, length: int, instead: str) -> None:
    time = "2026-01-31T09:30:05.123Z"
    text = time[:at] + instead + time[at + length :]
    moment = None
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
    if moment is None or moment.tzinfo is None:
        with pytest.raises(ValueError):  # noqa: PT011 -- the message is Python's, or ours
            milliseconds(text)
    else:
        assert milliseconds(text) == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@given(st.dictionaries(st.sampled_from(NAMES), MEMBER), MEMBER | NESTED, MEMBER | NESTED)
def test_members_of_any_shape_are_searched_by_their_texts(
    members: dict[str, object], actor: object, instance: object
) -> None:
    def text(outer: object, name: str) -> str:
        member = outer.get(name) if isinstance(outer, dict) else None
        return member if isinstance(member, str) else ""

    columns = search_columns(members | {"time": "1970-01-01T00:00:01Z", "actor": actor, "instance": instance})
    assert columns.time == 1000
    assert columns.actor == (f"{text(actor, 'issuer')}/{text(actor, 'subject')}" if isinstance(actor, dict) else "")
    assert columns.account == text(instance, "account")
    place = f"{text(instance, 'account')}/{text(instance, 'region')}/{text(instance, 'name')}"
    assert columns.instance == (place if isinstance(instance, dict) else "")
    assert (columns.event, columns.outcome, columns.request_id) == tuple(
        text(members, name) for name in ("event", "outcome", "request_id")
    )
