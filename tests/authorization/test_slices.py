"""The slice must decide as the full set does: the whole speed of this room rests on it."""

from typing import Any

from cedarpy import Entities, PolicySet, is_authorized
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.authorization.entities import context_document, principal_entity, resource_entity
from broker.authorization.schema import schema
from broker.model import Action, Caller, Instance, InstanceRef, Platform, RequestContext
from tests.authorization.conftest import NOW
from tests.authorization.quick import quick

PRINCIPALS = [
    "principal",
    "principal is User",
    "principal is Workload",
    'principal == User::"corp/a"',
    'principal == Workload::"corp/a"',
    'principal in Group::"corp/g1"',
    'principal in Group::"corp/g2"',
    'principal in Group::"ci/g1"',
    'principal is User in Group::"corp/g1"',
    'principal in User::"corp/b"',
]
ACTIONS = [
    "action",
    'action == Action::"ssh"',
    'action in Action::"connect"',
    'action in [Action::"list", Action::"rdp"]',
    'action in [Action::"connect", Action::"approve"]',
]
RESOURCES = [
    "resource",
    "resource is Instance",
    'resource == Instance::"main/eu-west-1/web-1"',
    'resource in Region::"main/eu-west-1"',
    'resource in Account::"main"',
    'resource in Account::"other"',
    'resource is Instance in Region::"other/eu-west-1"',
]
CONDITIONS = [
    "",
    "when { context.mfa }",
    "unless { context.mfa }",
    "when { 9223372036854775807 + context.approvals > 0 }",
    'when { principal in Group::"corp/g2" }',
]

heads = st.tuples(
    st.sampled_from(["permit", "permit", "permit", "forbid"]),
    st.sampled_from(PRINCIPALS),
    st.sampled_from(ACTIONS),
    st.sampled_from(RESOURCES),
    st.sampled_from(CONDITIONS),
)
callers = st.builds(
    Caller,
    issuer=st.sampled_from(["corp", "ci"]),
    subject=st.sampled_from(["a", "b", "c"]),
    kind=st.sampled_from(["user", "workload"]),
    groups=st.lists(st.sampled_from(["g1", "g2", "g3"]), max_size=3).map(tuple),
    mfa=st.booleans(),
    token_expires_at=st.just(NOW),
)
instances = st.builds(
    Instance,
    ref=st.builds(
        InstanceRef,
        st.sampled_from(["main", "other"]),
        st.sampled_from(["eu-west-1", "us-east-1"]),
        st.sampled_from(["web-1", "db-1"]),
    ),
    platform=st.just(Platform.LINUX_UNIX),
    blueprint=st.just("b"),
    bundle=st.just("n"),
    state=st.just("running"),
)
contexts = st.builds(RequestContext, now=st.just(NOW), source_ip=st.just("10.0.0.1"), approvals=st.integers(0, 1))
instance_actions = st.sampled_from([action for action in Action if action not in {Action.READ_AUDIT, Action.LOCK}])


@settings(max_examples=150, deadline=None)
@given(st.lists(heads, max_size=12), st.lists(st.tuples(callers, instance_actions, instances, contexts), max_size=8))
def test_a_slice_decides_as_the_full_set_does(policies: list[tuple[str, ...]], questions: list[Any]) -> None:
    text = "\n".join(
        f'@id("p{number}") {effect}({who}, {action}, {what}) {condition};'
        for number, (effect, who, action, what, condition) in enumerate(policies)
        if not ("approve" in action and "connect" not in action)
    )
    snapshot, full = quick(text), PolicySet.from_str(text)
    for caller, action, instance, context in questions:
        decision = snapshot.decide(caller, action, instance, context)
        assert (decision.allowed, decision.policies, bool(decision.errors)) == _by_the_full_set(
            full, caller, action, instance, context
        )


def _by_the_full_set(
    full: PolicySet, caller: Caller, action: Action, instance: Instance, context: RequestContext
) -> tuple[bool, tuple[str, ...], bool]:
    who, what = principal_entity(caller), resource_entity(instance)
    request = {
        "principal": who.uid,
        "action": {"type": "Action", "id": action.value},
        "resource": what.uid,
        "context": context_document(caller, context),
    }
    entities = Entities.from_json_str(what.document, schema()).with_added_json_str(who.document)
    result = is_authorized(request, full, entities)
    if result.diagnostics.errors:
        return False, (), True
    return result.allowed, tuple(sorted(result.diagnostics.id_annotations_by_reason.values())), False


def _company(teams: int) -> str:
    return "".join(
        f'@id("team-{n}") permit(principal in Group::"corp/team-{n}", action in Action::"connect", resource);'
        for n in range(teams)
    )


def test_only_policies_whose_scope_fits_are_looked_at(alice: Caller, web: Instance) -> None:
    snapshot = quick(_company(50) + '@id("ops") permit(principal in Group::"corp/ops", action, resource);')
    assert [rule.id for rule in snapshot.candidates(alice, Action.SSH, web)] == ["ops"]


def test_questions_with_the_same_candidates_share_one_parsed_set(alice: Caller, web: Instance) -> None:
    snapshot = quick('@id("ops") permit(principal in Group::"corp/ops", action, resource);')
    one = snapshot.slice("ssh", principal_entity(alice).keys, resource_entity(web).keys)
    assert snapshot.slice("ssh", ("User::corp/bob", "User", "Group::corp/ops"), ("Instance",)) is one


def test_the_cache_of_slices_is_bounded() -> None:
    snapshot = quick(_company(40))
    snapshot.max_slices = 8
    made = [snapshot.slice("ssh", (f"Group::corp/team-{n}",), ()) for n in range(40)]
    assert snapshot.cached_slices == 8
    assert snapshot.slice("ssh", ("Group::corp/team-39",), ()) is made[39]
    assert snapshot.slice("ssh", ("Group::corp/team-0",), ()) is not made[0]
