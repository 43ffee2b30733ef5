"""The desk: the order of the steps, and what each refusal leaves behind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from broker import errors
from broker.approvals.facts import Person
from broker.approvals.glass import GlassUse
from broker.approvals.locks import Lock, LockKind
from broker.issuing.desk import GLASS_BROKEN, GLASS_WHOLE, Asking, CredentialDesk
from broker.model import (
    Action,
    Caller,
    CredentialRequest,
    Decision,
    HostKey,
    Instance,
    Issued,
    Nearest,
    Obligation,
    Platform,
    Protocol,
    RequestContext,
)
from tests.doubles.issuing import (
    CALLER,
    NOW,
    SOURCE,
    Approved,
    ClearVault,
    Diary,
    DiaryGateway,
    DiaryLedger,
    Glass,
    ListedInventory,
    Padlocks,
    PinnedHostKeys,
    Purse,
    TablePolicies,
    credential_request,
    hand_over,
    instance,
)

ALLOWED = ((Action.SSH, "web-1"), (Action.LIST, "web-1"))


@dataclass
class Desk:
    """A desk among doubles, and what they saw."""

    diary: Diary
    ledger: DiaryLedger
    desk: CredentialDesk

    async def issue(self, request: CredentialRequest | None = None) -> Issued:
        return await self.desk.issue(
            Asking(caller=CALLER, request=request or credential_request(), source=SOURCE, request_id="r1")
        )


def desk(
    *,
    instances: tuple[Instance, ...] = (instance(),),
    inventory: ListedInventory | None = None,
    policies: TablePolicies | None = None,
    aws_error: BaseException | None = None,
    attempts: int = 1,
    vault_error: errors.BrokerError | None = None,
    refuses: tuple[str, ...] = (),
    expires_at: datetime = NOW + timedelta(seconds=780),
    host_keys: tuple[HostKey, ...] = (),
    pins: PinnedHostKeys | None = None,
    approvals: Approved | None = None,
    owed: GlassUse | None = None,
    locks: Padlocks | None = None,
    purse: Purse | None = None,
) -> Desk:
    diary = Diary()
    ledger = DiaryLedger(diary, refuses)
    return Desk(
        diary,
        ledger,
        CredentialDesk(
            inventory=inventory or ListedInventory(*instances),
            policies=policies or TablePolicies(ALLOWED),
            gateway=DiaryGateway(diary, aws_error, attempts, host_keys),
            vault=ClearVault(expires_at, vault_error),
            ledger=ledger,
            host_keys=pins or PinnedHostKeys(),
            approvals=approvals or Approved(),
            glass=Glass(diary, owed),
            locks=locks or Padlocks(),
            budgets=purse or Purse(),
            delivery=hand_over,
            clock=lambda: NOW,
        ),
    )


async def test_a_permitted_request_is_recorded_before_aws_is_asked_and_again_before_it_is_answered() -> None:
    office = desk()
    await office.issue()
    assert office.diary == ["credential.requested", "aws", "credential.issued"]


async def test_the_issued_event_says_who_got_into_what_and_by_which_policy() -> None:
    office = desk()
    await office.issue()
    requested, issued = office.ledger.events
    assert (issued.actor, issued.instance, issued.protocol) == (CALLER, instance().ref, Protocol.SSH)
    assert issued.decision is not None
    assert issued.decision.policies == ("table",)
    assert issued.credential is not None
    assert issued.credential.certificate_serial == 7
    assert issued.upstream_request_id == "aws-1"
    assert issued.lease_id == requested.lease_id != ""


async def test_a_denied_caller_never_reaches_lightsail_and_leaves_one_event() -> None:
    office = desk(policies=TablePolicies(()))
    with pytest.raises(errors.Denied):
        await office.issue()
    assert office.diary == ["credential.denied"]


async def test_an_instance_that_is_not_there_is_refused_like_one_that_is_hidden() -> None:
    hidden, missing = desk(policies=TablePolicies(())), desk(instances=())
    with pytest.raises(errors.Denied) as one:
        await hidden.issue()
    with pytest.raises(errors.Denied) as other:
        await missing.issue()
    assert (one.value.code, one.value.detail, one.value.next_step) == (
        other.value.code,
        other.value.detail,
        other.value.next_step,
    )
    assert missing.ledger.events[0].target == "web-1"


async def test_without_a_durable_request_aws_is_not_asked() -> None:
    office = desk(refuses=("credential.requested",))
    with pytest.raises(errors.AuditUnavailable):
        await office.issue()
    assert office.diary == []


async def test_without_a_durable_issue_nothing_leaves() -> None:
    office = desk(refuses=("credential.issued",))
    with pytest.raises(errors.AuditUnavailable):
        await office.issue()
    assert office.diary == ["credential.requested", "aws"]


async def test_an_error_of_aws_closes_the_request_as_failed_with_awss_own_code() -> None:
    office = desk(aws_error=errors.UpstreamUnavailable(upstream_code="ThrottlingException"))
    with pytest.raises(errors.UpstreamUnavailable):
        await office.issue()
    assert office.diary == ["credential.requested", "aws", "credential.failed"]
    assert office.ledger.events[-1].error == "upstream_unavailable"
    assert office.ledger.events[-1].details == {"upstream_code": "ThrottlingException"}


async def test_every_attempt_to_mint_is_part_of_the_record() -> None:
    once, thrice = desk(), desk(attempts=3)
    await once.issue()
    await thrice.issue()
    assert once.ledger.events[-1].details == {}
    assert thrice.ledger.events[-1].details == {"attempts": 3}
    assert thrice.ledger.events[-1].upstream_request_id == "aws-1"


async def test_a_failure_of_aws_is_recorded_with_its_attempts_and_request_id() -> None:
    office = desk(aws_error=errors.UpstreamUnavailable(upstream_code="503"), attempts=2)
    with pytest.raises(errors.UpstreamUnavailable):
        await office.issue()
    failed = office.ledger.events[-1]
    assert failed.details == {"upstream_code": "503", "attempts": 2}
    assert failed.upstream_request_id == "aws-1"


async def test_what_was_minted_and_not_opened_is_recorded_with_its_attempts_and_request_id() -> None:
    office = desk(vault_error=errors.KeyNotHeld(), attempts=2)
    with pytest.raises(errors.KeyNotHeld):
        await office.issue()
    failed = office.ledger.events[-1]
    assert (failed.event, failed.error) == ("credential.failed", "key_not_held")
    assert failed.details == {"attempts": 2}
    assert failed.upstream_request_id == "aws-1"


async def test_a_request_that_is_cancelled_on_its_way_is_closed_as_unknown() -> None:
    office = desk(aws_error=asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await office.issue()
    assert office.diary == ["credential.requested", "aws", "credential.failed"]
    assert (office.ledger.events[-1].outcome, office.ledger.events[-1].error) == ("unknown", "outcome_unknown")


async def test_a_policy_error_denies_even_what_the_table_allows() -> None:
    office = desk(policies=TablePolicies(ALLOWED, errors=("attribute missing",), obligations=(Obligation.MFA,)))
    with pytest.raises(errors.Denied):
        await office.issue()
    assert office.ledger.events[0].details == {"policy_errors": ("attribute missing",)}


@pytest.mark.parametrize(
    ("obligations", "kind"),
    [
        ((Obligation.MFA,), errors.StepUpRequired),
        ((Obligation.FRESH_LOGIN,), errors.StepUpRequired),
        ((Obligation.REASON,), errors.ReasonRequired),
        ((Obligation.TICKET,), errors.TicketRequired),
        ((Obligation.APPROVAL,), errors.ApprovalRequired),
        ((Obligation.MFA, Obligation.REASON), errors.StepUpRequired),
    ],
)
async def test_a_denial_that_more_would_lift_says_what(
    obligations: tuple[Obligation, ...], kind: type[errors.Refused]
) -> None:
    office = desk(policies=TablePolicies((), obligations=obligations))
    with pytest.raises(kind) as refusal:
        await office.issue()
    assert refusal.value.next_step
    assert office.diary == ["credential.denied"]


async def test_a_bare_name_in_two_regions_is_ambiguous_only_for_who_may_see_both() -> None:
    twins = (instance(), instance(region="us-east-1"))
    with pytest.raises(errors.AmbiguousInstance) as ambiguous:
        await desk(instances=twins).issue()
    assert ambiguous.value.choices == ("main/eu-west-1/web-1", "main/us-east-1/web-1")
    with pytest.raises(errors.Denied):
        await desk(instances=twins, policies=TablePolicies(((Action.SSH, "web-1"),))).issue()


async def test_a_full_name_is_never_ambiguous() -> None:
    office = desk(instances=(instance(), instance(region="us-east-1")))
    await office.issue(credential_request("main/us-east-1/web-1"))
    assert office.ledger.events[-1].instance == instance(region="us-east-1").ref


async def test_the_other_platforms_protocol_is_refused_only_after_the_policies_allow_it() -> None:
    allowed = desk(policies=TablePolicies((*ALLOWED, (Action.RDP, "web-1"))))
    with pytest.raises(errors.ProtocolNotSupported) as refusal:
        await allowed.issue(credential_request(protocol=Protocol.RDP))
    assert refusal.value.detail == "The platform of this instance is LINUX_UNIX, which speaks ssh."
    with pytest.raises(errors.Denied):
        await desk().issue(credential_request(protocol=Protocol.RDP))
    assert allowed.diary == ["credential.denied"]


async def test_the_protocol_defaults_to_that_of_the_platform() -> None:
    office = desk(instances=(instance(platform=Platform.WINDOWS),), policies=TablePolicies(((Action.RDP, "web-1"),)))
    await office.issue()
    assert office.ledger.events[-1].protocol is Protocol.RDP


@pytest.mark.parametrize(
    ("aws", "policy", "expected"),
    [
        (780, None, 780),
        (780, timedelta(minutes=5), 300),
        (7200, timedelta(hours=8), 3600),
    ],
)
async def test_a_lease_ends_at_the_earliest_of_aws_policy_and_token(
    aws: int, policy: timedelta | None, expected: int
) -> None:
    office = desk(expires_at=NOW + timedelta(seconds=aws), policies=TablePolicies(ALLOWED, max_duration=policy))
    await office.issue()
    assert office.ledger.events[-1].expires_at == NOW + timedelta(seconds=expected)


async def test_a_preview_decides_and_leaves_nothing_behind() -> None:
    office = desk()
    asking = Asking(caller=CALLER, request=credential_request(), source=SOURCE, request_id="r1")
    assert (await office.desk.preview(asking)).allowed
    missing = replace(asking, request=credential_request("nowhere"))
    assert not (await office.desk.preview(missing)).allowed
    assert office.diary == []


async def test_why_not_is_told_only_to_who_may_know_of_the_instance() -> None:
    asking = Asking(caller=CALLER, request=credential_request(), source=SOURCE, request_id="r1")
    known = desk(policies=TablePolicies([(Action.LIST, "web-1")]))
    assert (await known.desk.preview(asking)).nearest == Nearest(group="somewhere")
    hidden = desk(policies=TablePolicies([]))
    missing = replace(asking, request=credential_request("nowhere"))
    assert await hidden.desk.preview(asking) == await hidden.desk.preview(missing) == Decision(allowed=False)


OLD, NEW = (HostKey(algorithm="ssh-ed25519", public_key="AAAA", sha256=digit * 64) for digit in "01")
OTHER = HostKey(algorithm="ssh-rsa", public_key="AAAA", sha256="2" * 64)


async def test_the_first_issue_pins_the_host_keys_that_aws_names() -> None:
    office = desk(host_keys=(NEW, OLD, OLD), pins=PinnedHostKeys(None, (OLD.text, NEW.text)))
    await office.issue()
    assert office.ledger.events[-1].details == {"host_keys": (OLD.text, NEW.text)}
    assert office.diary == ["credential.requested", "aws", "credential.issued"]


async def test_an_instance_without_host_keys_pins_nothing() -> None:
    office = desk()
    await office.issue()
    assert office.ledger.events[-1].details == {}


@pytest.mark.parametrize("named", [(OLD,), (OTHER, OLD), ()])
async def test_pinned_host_keys_let_in_and_are_not_pinned_again(named: tuple[HostKey, ...]) -> None:
    office = desk(host_keys=named, pins=PinnedHostKeys((OLD.text, OTHER.text)))
    await office.issue()
    assert office.ledger.events[-1].event == "credential.issued"
    assert office.ledger.events[-1].details == {}


@pytest.mark.parametrize("named", [(NEW,), (OLD, NEW)])
async def test_one_host_key_that_is_not_pinned_is_a_conflict_with_a_way_out(named: tuple[HostKey, ...]) -> None:
    office = desk(host_keys=named, pins=PinnedHostKeys((OLD.text,)), attempts=2)
    with pytest.raises(errors.HostKeyChanged) as refusal:
        await office.issue()
    assert "broker hosts accept main/eu-west-1/web-1" in refusal.value.next_step
    assert office.diary == ["credential.requested", "aws", "credential.failed"]
    failed = office.ledger.events[-1]
    assert (failed.outcome, failed.error) == ("failure", "host_key_changed")
    assert failed.details == {"attempts": 2, "host_keys": tuple(sorted(key.text for key in named))}


async def test_pins_that_cannot_be_read_let_nobody_in() -> None:
    office = desk(host_keys=(OLD,), pins=PinnedHostKeys(errors.AuditUnavailable("gone")))
    with pytest.raises(errors.AuditUnavailable):
        await office.issue()
    assert office.diary == ["credential.requested", "aws", "credential.failed"]


@pytest.mark.parametrize("second", [(NEW.text,), None, errors.AuditUnavailable("gone")])
async def test_of_two_first_issues_the_one_that_is_not_first_in_the_log_keeps_its_credential(
    second: tuple[str, ...] | errors.BrokerError | None,
) -> None:
    office = desk(host_keys=(OLD,), pins=PinnedHostKeys(None, second))
    with pytest.raises((errors.HostKeyChanged, errors.AuditUnavailable)):
        await office.issue()
    assert office.diary == ["credential.requested", "aws", "credential.issued", "credential.withheld"]
    issued, withheld = office.ledger.events[-2:]
    assert withheld.lease_id == issued.lease_id
    assert (withheld.outcome, withheld.credential, withheld.details) == ("failure", None, {})


async def test_every_event_of_a_known_instance_has_its_tags() -> None:
    tagged = replace(instance(), tags={"env": "prod"})
    office, refusing = desk(instances=(tagged,)), desk(instances=(tagged,), policies=TablePolicies(()))
    await office.issue()
    with pytest.raises(errors.Denied):
        await refusing.issue()
    assert [event.tags for event in (*office.ledger.events, *refusing.ledger.events)] == [{"env": "prod"}] * 3


OWED = GlassUse(
    thread="glass-1", index=3, last_index=5, person=Person("corp", "alice"), instance=instance().ref,
    protocol=Protocol.SSH, reason="before", ticket="", used_at=NOW, issued=True, settled=False,
)  # fmt: skip
EMERGENCY = CredentialRequest(instance="web-1", reason="all is down", break_glass=True)
GLASS = TablePolicies([(Action.LIST, "web-1")], emergencies=[(Action.SSH, "web-1")])


async def test_breaking_the_glass_is_written_down_before_anything_else() -> None:
    office = desk(policies=GLASS)
    issued = await office.issue(EMERGENCY)
    assert office.diary == ["break_glass.used", "credential.requested", "aws", "credential.issued"]
    assert all(event.details["thread"] == "glass-1" and event.break_glass for event in office.ledger.events)
    assert issued.credential.warnings[-1] == GLASS_BROKEN


async def test_the_glass_is_not_broken_for_what_is_allowed_without() -> None:
    office = desk()
    issued = await office.issue(EMERGENCY)
    assert office.diary == ["credential.requested", "aws", "credential.issued"]
    assert not any(event.break_glass for event in office.ledger.events)
    assert issued.credential.warnings[-1] == GLASS_WHOLE


async def test_the_glass_is_not_broken_without_a_reason() -> None:
    office = desk(policies=GLASS)
    with pytest.raises(errors.ReasonRequired):
        await office.issue(replace(EMERGENCY, reason="\t"))
    assert office.diary == ["credential.denied"]


async def test_a_use_that_nobody_has_reviewed_holds_the_next_one_up() -> None:
    office = desk(policies=GLASS, owed=OWED)
    with pytest.raises(errors.ReviewRequired):
        await office.issue(EMERGENCY)
    assert office.diary == ["credential.denied"]
    assert (office.ledger.events[0].error, office.ledger.events[0].lease_id) == ("review_required", "")
    asking = Asking(caller=CALLER, request=EMERGENCY, source=SOURCE, request_id="r1")
    assert (await office.desk.preview(asking)).obligations == (Obligation.REVIEW,)
    ordinary = desk(owed=OWED)
    await ordinary.issue()  # nothing else is held up


async def test_all_that_comes_of_a_use_belongs_to_its_thread() -> None:
    failing = desk(policies=GLASS, aws_error=errors.UpstreamUnavailable())
    with pytest.raises(errors.UpstreamUnavailable):
        await failing.issue(EMERGENCY)
    assert failing.ledger.events[-1].details["thread"] == "glass-1"
    racing = desk(policies=GLASS, host_keys=(NEW,), pins=PinnedHostKeys(None, (OLD.text,)))
    with pytest.raises(errors.HostKeyChanged):
        await racing.issue(EMERGENCY)
    withheld = racing.ledger.events[-1]
    assert (withheld.event, withheld.details["thread"]) == ("credential.withheld", "glass-1")


async def test_a_lock_goes_before_the_policies_and_is_told_to_who_may_know() -> None:
    lock = Lock(
        id="l1", index=0, last_index=0, kind=LockKind.INSTANCE, target="main/eu-west-1/web-1", message="evidence",
        created_by=Person("corp", "bob"), created_at=NOW, until=None,
    )  # fmt: skip
    office = desk(locks=Padlocks(lock))
    with pytest.raises(errors.Locked) as refusal:
        await office.issue()
    assert "evidence" in refusal.value.detail
    assert [event.error for event in office.ledger.events] == ["locked"]
    assert office.ledger.events[0].decision is None
    hidden = desk(locks=Padlocks(lock), policies=TablePolicies(()))
    with pytest.raises(errors.Denied):
        await hidden.issue()


async def test_one_issue_too_many_is_a_denial_and_never_reaches_aws() -> None:
    office = desk(purse=Purse(1))
    await office.issue()
    with pytest.raises(errors.BudgetExhausted):
        await office.issue()
    assert office.diary == ["credential.requested", "aws", "credential.issued", "credential.denied"]
    assert office.ledger.events[-1].error == "budget_exhausted"
    emergency = desk(policies=GLASS, purse=Purse(0))
    await emergency.issue(EMERGENCY)


class AgeingInventory(ListedInventory):
    """Knows an instance as it was, and reads it anew when asked to."""

    def __init__(self, known: Instance, now: Instance | errors.BrokerError) -> None:
        super().__init__(known)
        self._now = now
        self.read: list[timedelta] = []

    async def fresh(self, instance: Instance, within: timedelta) -> Instance:
        del instance
        self.read.append(within)
        if isinstance(self._now, errors.BrokerError):
            raise self._now
        return self._now


class TagPolicies(TablePolicies):
    """Allows what the table allows, for instances without the tag `quarantine`, on facts of the last 30 seconds."""

    def decide(
        self,
        caller: Caller,
        action: Action,
        resource: Instance | str,
        context: RequestContext,
        *,
        obliging: bool = False,
    ) -> Decision:
        decision = super().decide(caller, action, resource, context, obliging=obliging)
        if isinstance(resource, Instance) and "quarantine" in resource.tags:
            return Decision(allowed=False)
        return replace(decision, max_staleness=timedelta(seconds=30) if decision.allowed else None)


def seen(ago: float, **tags: str) -> Instance:
    return replace(instance(), tags=tags, read_at=NOW - timedelta(seconds=ago))


async def test_a_permit_that_wants_fresh_facts_reads_them_when_ours_are_old() -> None:
    inventory = AgeingInventory(seen(31), seen(0, owner="bob"))
    office = desk(inventory=inventory, policies=TagPolicies(ALLOWED))
    await office.issue()
    assert inventory.read == [timedelta(seconds=30)]
    issued = office.ledger.events[-1]
    assert (issued.tags, issued.details) == ({"owner": "bob"}, {"tags_age": 0})


async def test_fresh_enough_facts_are_not_read_again_and_their_age_is_told() -> None:
    inventory = AgeingInventory(seen(30), errors.UpstreamUnavailable())
    office = desk(inventory=inventory, policies=TagPolicies(ALLOWED))
    await office.issue()
    assert inventory.read == []
    assert {event.details["tags_age"] for event in office.ledger.events} == {30}


async def test_what_was_tagged_meanwhile_is_denied() -> None:
    office = desk(inventory=AgeingInventory(seen(50), seen(0, quarantine="")), policies=TagPolicies(ALLOWED))
    with pytest.raises(errors.Denied):
        await office.issue()
    assert office.diary == ["credential.denied"]
    assert office.ledger.events[0].tags == {"quarantine": ""}


async def test_facts_that_cannot_be_read_anew_are_a_refusal() -> None:
    for failure in (errors.UpstreamUnavailable(), errors.Denied("gone")):
        office = desk(inventory=AgeingInventory(seen(50), failure), policies=TagPolicies(ALLOWED))
        with pytest.raises(type(failure)):
            await office.issue()
        assert office.diary == ["credential.denied"]
        assert office.ledger.events[0].error == failure.code
