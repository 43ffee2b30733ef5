"""Time windows: by the clocks of one zone, whatever they do in spring and autumn; `context.now` stays UTC."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from broker.authorization.cases import Unreadable, read_table
from broker.authorization.policies import Policies
from broker.authorization.tables import ask, describe_decision
from broker.model import Action, Caller, Instance, RequestContext
from tests.authorization.quick import quick

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = quick("""
    @id("office") permit(principal, action == Action::"ssh", resource)
    when { context.local.weekday <= 5 && context.local.hour >= 8 && context.local.hour < 18 };
""")


@pytest.mark.parametrize(
    ("at", "is_open"),
    [
        ("2026-01-30T07:00:00+00:00", True),  # a Friday, eight o'clock in winter
        ("2026-01-30T06:59:59+00:00", False),
        ("2026-01-30T16:59:59+00:00", True),
        ("2026-01-30T17:00:00+00:00", False),
        ("2026-01-31T10:00:00+00:00", False),  # a Saturday
        ("2026-07-31T06:00:00+00:00", True),  # eight o'clock in summer
        ("2026-07-31T05:59:59+00:00", False),
        ("2026-02-01T23:30:00+00:00", False),  # Monday there, Sunday here
    ],
)
def test_a_window_follows_the_clocks_of_its_zone(
    at: str, is_open: object, alice: Caller, web: Instance, context: RequestContext
) -> None:
    there = replace(context, now=datetime.fromisoformat(at), zone=BERLIN)
    assert OFFICE.decide(alice, Action.SSH, web, there).allowed is is_open


@pytest.mark.parametrize(
    ("at", "hour", "minute"),
    [
        ("2026-10-25T00:30:00+00:00", 2, 30),  # summer time
        ("2026-10-25T01:30:00+00:00", 2, 30),  # the same again, winter time
        ("2026-03-29T00:59:59+00:00", 1, 59),
        ("2026-03-29T01:00:00+00:00", 3, 0),  # two o'clock did not come
        ("2026-06-30T23:59:59+00:00", 1, 59),
    ],
)
def test_where_clocks_are_put_back_or_forward_each_moment_has_one_local_time(
    at: str, hour: int, minute: int, alice: Caller, web: Instance, context: RequestContext
) -> None:
    moment = datetime.fromisoformat(at)
    policies = quick(f"""
        @id("now") permit(principal, action == Action::"ssh", resource)
        when {{ context.local.hour == {hour} && context.local.minute == {minute} }}
        when {{ context.local.date == "{moment.astimezone(BERLIN).date()}" }}
        when {{ context.now == datetime("{moment:%Y-%m-%dT%H:%M:%SZ}") }};
    """)
    assert policies.decide(alice, Action.SSH, web, replace(context, now=moment, zone=BERLIN)).allowed
    assert not policies.decide(alice, Action.SSH, web, replace(context, now=moment)).allowed


def test_the_door_tells_the_time_of_its_zone_whoever_asks(
    tmp_path_factory: pytest.TempPathFactory, alice: Caller, web: Instance, context: RequestContext
) -> None:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "all.cedar").write_text(
        '@id("ten") permit(principal, action, resource) when { context.local.hour == 10 };'
    )
    there, here = Policies(folder, zone=BERLIN), Policies(folder)
    there.load()
    here.load()
    assert there.decide(alice, Action.SSH, web, context).allowed
    assert there.within_reach(alice, Action.SSH, web, context)
    assert not here.decide(alice, Action.SSH, web, context, obliging=True).allowed
    assert not here.within_reach(alice, Action.SSH, web, context)


TABLE = """
{zone}
cases:
  - as: corp/alice
    on: main/eu-west-1/web-1
    action: ssh
    context: {{now: "2026-01-30T07:30:00Z"}}
    expect: {expect}
"""


@pytest.mark.parametrize(("zone", "expect"), [("time_zone: Europe/Berlin", "allow"), ("", "deny")])
def test_a_table_has_a_zone(zone: str, expect: str) -> None:
    [case] = read_table(TABLE.format(zone=zone, expect=expect).encode(), "t.yaml")
    assert describe_decision(case, ask(OFFICE, case)) == expect


def test_a_table_in_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(Unreadable, match="Europe/Berlin"):
        read_table(TABLE.format(zone="time_zone: Mars/Olympus", expect="deny").encode(), "t.yaml")
