import json
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.authorization.entities import context_document, principal_entity, resource_entity
from broker.model import Action, Caller, Instance, InstanceRef, RequestContext
from tests.authorization.quick import quick

EVERYTHING = '@id("all") permit(principal, action, resource);'


def test_nothing_is_allowed_without_policies(alice: Caller, web: Instance, context: RequestContext) -> None:
    decision = quick("").decide(alice, Action.SSH, web, context)
    assert (decision.allowed, decision.policies, decision.errors) == (False, (), ())
    assert decision.digest


def test_a_forbid_alone_denies_and_is_named(alice: Caller, web: Instance, context: RequestContext) -> None:
    decision = quick('@id("no") forbid(principal, action, resource);').decide(alice, Action.SSH, web, context)
    assert (decision.allowed, decision.policies) == (False, ("no",))


def test_a_forbid_wins_over_every_permit(alice: Caller, web: Instance, context: RequestContext) -> None:
    policies = quick(EVERYTHING + '@id("no") forbid(principal, action == Action::"ssh", resource);')
    assert policies.decide(alice, Action.SSH, web, context).policies == ("no",)
    assert policies.decide(alice, Action.RDP, web, context).policies == ("all",)


def test_all_deciding_permits_are_named_and_the_shortest_duration_holds(
    alice: Caller, web: Instance, context: RequestContext
) -> None:
    policies = quick("""
        @id("b") @max_duration("2h") @max_staleness("30s") permit(principal, action, resource);
        @id("a") @max_duration("1h30m") permit(principal, action == Action::"ssh", resource);
        @id("c") permit(principal, action, resource);
        @id("d") @max_duration("1m") permit(principal, action == Action::"rdp", resource);
    """)
    decision = policies.decide(alice, Action.SSH, web, context)
    assert decision.policies == ("a", "b", "c")
    assert decision.max_duration == timedelta(minutes=90)
    assert decision.max_staleness == timedelta(seconds=30)


def test_a_permit_without_duration_bounds_nothing(alice: Caller, web: Instance, context: RequestContext) -> None:
    assert quick(EVERYTHING).decide(alice, Action.SSH, web, context).max_duration is None


@pytest.mark.parametrize("effect", ["forbid", "permit"])
def test_a_policy_that_fails_denies_whatever_it_is(
    effect: str, alice: Caller, web: Instance, context: RequestContext
) -> None:
    broken = (
        f'@id("broken") {effect}(principal, action, resource) when {{ 9223372036854775807 + context.approvals > 0 }};'
    )
    policies = quick(EVERYTHING + broken)
    assert policies.decide(alice, Action.SSH, web, context).allowed is (effect == "permit")
    decision = policies.decide(alice, Action.SSH, web, replace(context, approvals=1))
    assert not decision.allowed
    assert decision.policies == ()
    assert "overflow" in decision.errors[0]


@pytest.mark.parametrize("address", ["", "not an address", "::zz", "10.0.0.0.1", "unix:"])
def test_an_odd_address_denies(address: str, alice: Caller, web: Instance, context: RequestContext) -> None:
    decision = quick(EVERYTHING).decide(alice, Action.SSH, web, replace(context, source_ip=address))
    assert not decision.allowed
    assert decision.errors


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "::ffff:a01:203"])
def test_an_ipv4_peer_on_a_dual_stack_socket_is_an_ipv4_peer(
    address: str, alice: Caller, web: Instance, context: RequestContext
) -> None:
    policies = quick("""@id("net") permit(principal, action, resource) when {
        context.source.isInRange(ip("10.0.0.0/8")) };""")
    assert policies.decide(alice, Action.SSH, web, replace(context, source_ip=address)).allowed


def test_the_zone_of_a_link_local_address_is_left_out(alice: Caller, web: Instance, context: RequestContext) -> None:
    policies = quick(
        '@id("net") permit(principal, action, resource) when { context.source.isInRange(ip("fe80::/10")) };'
    )
    assert policies.decide(alice, Action.SSH, web, replace(context, source_ip="fe80::1%eth0")).allowed


HOSTILE = [
    'a"b',
    "a\\",
    'x"; permit(principal, action, resource); //',
    'alice" } || true || { "',
    'a::b::"c"',
    'Group::"corp/ops"',
    "nul\x00inside",
    "\u202eevil\u2028",
    '{"__entity": {"type": "Group", "id": "corp/ops"}}',
    "x" * 4096,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_subject_is_that_subject_and_no_other(
    text: str, alice: Caller, web: Instance, context: RequestContext
) -> None:
    literal = (
        json.dumps(f"corp/{text}").replace("\\u0000", "\\0").replace("\\u202e", "\u202e").replace("\\u2028", "\u2028")
    )
    policies = quick(f'@id("one") permit(principal == User::{literal}, action, resource);')
    assert policies.decide(replace(alice, subject=text), Action.SSH, web, context).allowed
    assert not policies.decide(alice, Action.SSH, web, context).allowed
    assert not policies.decide(replace(alice, subject=text + "x"), Action.SSH, web, context).allowed


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_groups_tags_and_reasons_open_nothing(
    text: str, alice: Caller, web: Instance, context: RequestContext
) -> None:
    policies = quick("""@id("ops") permit(principal in Group::"corp/ops", action, resource is Instance) when {
        context.reason == "yes" || (resource.hasTag("open") && resource.getTag("open") == "yes") };""")
    caller = replace(alice, subject=text, groups=(text,), email=text)
    asked = replace(context, reason=text, ticket=text)
    decision = policies.decide(caller, Action.SSH, replace(web, tags={text: text, "open": text}), asked)
    assert (decision.allowed, decision.policies) == (False, ())
    assert policies.decide(
        replace(caller, groups=(text, "ops")), Action.SSH, replace(web, tags={"open": "yes"}), asked
    ).allowed


def test_text_that_utf8_cannot_carry_denies(alice: Caller, web: Instance, context: RequestContext) -> None:
    decision = quick(EVERYTHING).decide(replace(alice, subject="a\ud800"), Action.SSH, web, context)
    assert not decision.allowed
    assert decision.errors


def test_a_slash_in_an_issuers_name_cannot_make_one_person_another(
    alice: Caller, web: Instance, context: RequestContext
) -> None:
    decision = quick(EVERYTHING).decide(replace(alice, issuer="corp/a"), Action.SSH, web, context)
    assert not decision.allowed
    assert decision.errors


def test_a_group_of_another_issuer_is_another_group(alice: Caller, web: Instance, context: RequestContext) -> None:
    policies = quick('@id("ops") permit(principal in Group::"corp/ops", action, resource);')
    assert policies.decide(alice, Action.SSH, web, context).allowed
    assert not policies.decide(replace(alice, issuer="partner"), Action.SSH, web, context).allowed


def test_a_user_and_a_workload_of_the_same_name_are_two(alice: Caller, web: Instance, context: RequestContext) -> None:
    policies = quick('@id("w") permit(principal == Workload::"corp/alice", action, resource);')
    assert not policies.decide(alice, Action.SSH, web, context).allowed
    assert policies.decide(replace(alice, kind="workload"), Action.SSH, web, context).allowed


@pytest.mark.parametrize("where", ['Instance::"main/eu-west-1/web-1"', 'Region::"main/eu-west-1"', 'Account::"main"'])
def test_an_instance_is_in_its_region_and_its_account(
    where: str, alice: Caller, web: Instance, context: RequestContext
) -> None:
    policies = quick(f'@id("there") permit(principal, action == Action::"ssh", resource in {where});')
    assert policies.decide(alice, Action.SSH, web, context).allowed
    elsewhere = replace(web, ref=InstanceRef("other", "us-east-1", "web-2"))
    assert not policies.decide(alice, Action.SSH, elsewhere, context).allowed


def test_the_audit_of_an_account_is_read_by_account(alice: Caller, context: RequestContext) -> None:
    policies = quick('@id("read") permit(principal, action == Action::"readAudit", resource == Account::"main");')
    assert policies.decide(alice, Action.READ_AUDIT, "main", context).allowed
    assert not policies.decide(alice, Action.READ_AUDIT, "other", context).allowed


def test_a_question_that_makes_no_sense_is_denied(alice: Caller, web: Instance, context: RequestContext) -> None:
    assert (
        not quick('@id("i") permit(principal, action, resource is Account);')
        .decide(alice, Action.SSH, web, context)
        .allowed
    )


def test_every_attribute_of_the_contract_can_be_asked_for(
    alice: Caller, web: Instance, context: RequestContext
) -> None:
    policies = quick("""
        @id("all") permit(principal is User, action == Action::"ssh", resource) when {
          principal.issuer == "corp" && principal.subject == "alice" && principal.groups.contains("ops")
          && principal has email && principal.email == "alice@example.com"
          && resource.name == "web-1" && resource.account == "main" && resource.region == "eu-west-1"
          && resource.platform == "LINUX_UNIX" && resource.blueprint == "amazon_linux_2023"
          && resource.bundle == "nano_3_0" && resource.key_pair == "team" && resource.state == "running"
          && resource.hasTag("env") && resource.getTag("env") == "prod"
        } when {
          context.now == datetime("2026-01-31T09:30:00Z") && context.source == ip("203.0.113.9")
          && context.mfa && context has login_age && context.login_age == 7200 && context.bound
          && context.reason == "why" && context.ticket == "T-1" && context.approvals == 2 && context.break_glass
        };""")
    caller = replace(alice, email="alice@example.com", mfa=True, bound=True)
    asked = replace(context, reason="why", ticket="T-1", approvals=2, break_glass=True)
    decision = policies.decide(caller, Action.SSH, replace(web, key_pair="team"), asked)
    assert (decision.allowed, decision.errors) == (True, ())


def test_a_login_from_the_future_is_a_fresh_one_and_an_unknown_one_is_absent(
    alice: Caller, context: RequestContext
) -> None:
    future = replace(alice, authenticated_at=context.now + timedelta(seconds=20))
    assert json.loads(context_document(future, context))["login_age"] == 0
    assert "login_age" not in json.loads(context_document(replace(alice, authenticated_at=None), context))


def test_a_decision_parses_neither_policies_nor_the_instance_again(
    alice: Caller, web: Instance, context: RequestContext
) -> None:
    policies = quick(EVERYTHING)
    result = policies.ask_cedar(
        principal_entity(alice), Action.SSH, resource_entity(web), context_document(alice, context)
    )
    assert result is not None
    assert result.metrics["policies_pre_parsed"] == 1
    assert result.metrics["entities_pre_parsed"] == 1


def test_a_changed_tag_is_seen_at_once(alice: Caller, web: Instance, context: RequestContext) -> None:
    policies = quick("""@id("dev") permit(principal, action == Action::"ssh", resource) when {
        resource.hasTag("env") && resource.getTag("env") == "dev" };""")
    assert not policies.decide(alice, Action.SSH, web, context).allowed
    assert policies.decide(alice, Action.SSH, replace(web, tags={"env": "dev"}), context).allowed


def test_many_instances_are_decided_in_their_order(alice: Caller, web: Instance, context: RequestContext) -> None:
    policies = quick("""@id("even") permit(principal, action == Action::"list", resource) when {
        resource.hasTag("n") && resource.getTag("n") == "0" };""")
    many = [replace(web, ref=replace(web.ref, name=f"web-{n}"), tags={"n": str(n % 2)}) for n in range(100)]
    decisions = list(policies.decide_each(alice, Action.LIST, many, context))
    assert [decision.allowed for decision in decisions] == [n % 2 == 0 for n in range(100)]
