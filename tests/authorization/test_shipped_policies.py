"""The policies that are shipped do what their truth tables say, and every one of them is in a table."""

from dataclasses import replace
from pathlib import Path

import pytest

from broker.authorization.loading import load_snapshot
from broker.authorization.snapshot import PolicySnapshot
from broker.authorization.tables import run_tables
from broker.model import Action, Caller, Instance, Platform, RequestContext

POLICIES = Path(__file__).parents[2] / "policies"


@pytest.fixture(scope="module")
def shipped() -> PolicySnapshot:
    return load_snapshot(POLICIES)


def test_every_case_of_the_truth_tables_comes_out_as_expected(shipped: PolicySnapshot) -> None:
    report = run_tables(shipped, POLICIES / "tests")
    assert (report.problems, report.failures, report.uncovered) == ([], [], ())
    assert report.cases > len(shipped.rules)


def test_every_shipped_policy_is_explained_in_the_readme(shipped: PolicySnapshot) -> None:
    text = (POLICIES / "README.md").read_text()
    assert [name for name in shipped.rules if f"`{name}`" not in text] == []


def test_a_stranger_may_do_nothing_at_all(
    shipped: PolicySnapshot, alice: Caller, web: Instance, context: RequestContext
) -> None:
    stranger = replace(alice, groups=(), mfa=True)
    strongest = replace(context, reason="r", ticket="OPS-1", approvals=5, break_glass=True)
    for tags in ({}, {"env": "dev"}, {"env": "prod"}, {"deploy": "ci"}):
        for action in (Action.SSH, Action.RDP, Action.LIST, Action.APPROVE):
            assert not shipped.decide(stranger, action, replace(web, tags=tags), strongest).allowed
    assert not shipped.decide(stranger, Action.READ_AUDIT, "main", strongest).allowed


def test_an_operator_gets_rdp_on_windows_and_a_developer_nothing_in_production(
    shipped: PolicySnapshot, alice: Caller, web: Instance, context: RequestContext
) -> None:
    windows = replace(web, platform=Platform.WINDOWS)
    operator = replace(alice, groups=("ops",), mfa=True)
    assert shipped.decide(operator, Action.RDP, windows, replace(context, reason="updates")).allowed
    developer = replace(alice, subject="bob", groups=("developers",), mfa=True)
    assert not shipped.decide(developer, Action.SSH, web, replace(context, reason="curious")).allowed
