import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.errors import Denied, NotFound, UpstreamError, UpstreamUnavailable
from broker.lightsail.inventory import FIRST_LISTS_SECONDS, Inventory
from broker.lightsail.listings import KeyPair
from broker.lightsail.region import Freshness
from broker.model import Platform
from tests.doubles.lightsail import ListSource, ManualClock, Place, blueprint, bundle, record

IRELAND: Place = ("main", "eu-west-1")
VIRGINIA: Place = ("main", "us-east-1")
OTHER: Place = ("other", "eu-west-1")
AT_ONCE = Freshness(before_look=timedelta(0))
"""Looks again without the moment's rest; the rest is real time, which the clock of the tests does not move."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def source() -> ListSource:
    source = ListSource(IRELAND, VIRGINIA, OTHER)
    source.records[IRELAND] = [record("web-1"), record("db-1")]
    source.records[VIRGINIA] = [record("web-1", VIRGINIA)]
    source.records[OTHER] = [record("win-1", OTHER, blueprint="windows_server_2022", bundle="medium_win_3_0")]
    source.all_bundles[OTHER] = [bundle("medium_win_3_0", Platform.WINDOWS, power=2000)]
    return source


@pytest.fixture
async def inventory(source: ListSource, clock: ManualClock) -> AsyncIterator[Inventory]:
    inventory = Inventory(source, clock, AT_ONCE)
    await started(inventory)
    yield inventory
    await inventory.close()


async def started(inventory: Inventory) -> None:
    """Start, and wait until every region has answered or failed."""
    inventory.start()
    with contextlib.suppress(UpstreamError, UpstreamUnavailable):
        await inventory.instances()


async def names(inventory: Inventory, target: str) -> list[str]:
    return [str(instance.ref) for instance in await inventory.find(target)]


async def settled() -> None:
    """Let what runs in the background run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_name_finds_its_instance_with_the_platform_of_its_blueprint(inventory: Inventory) -> None:
    (found,) = await inventory.find("win-1")
    assert (str(found.ref), found.platform, found.warnings) == ("other/eu-west-1/win-1", Platform.WINDOWS, ())


async def test_an_instance_carries_the_fingerprint_that_aws_shows_for_its_key_pair(
    inventory: Inventory, source: ListSource, clock: ManualClock
) -> None:
    (before,) = await inventory.find("win-1")
    assert (before.key_pair, before.key_pair_fingerprint) == ("LightsailDefaultKeyPair", "")
    source.all_key_pairs[OTHER] = [KeyPair("another", "aa:bb"), KeyPair("LightsailDefaultKeyPair", "cc:dd")]
    source.all_key_pairs[IRELAND] = [KeyPair("LightsailDefaultKeyPair", "ee:ff")]
    clock.pass_by(seconds=61)
    await inventory.find("win-1")
    await settled()
    (after,) = await inventory.find("win-1")
    assert after.key_pair_fingerprint == "cc:dd"


async def test_instances_are_there_though_their_key_pairs_cannot_be_listed(
    source: ListSource, clock: ManualClock
) -> None:
    source.all_key_pairs[OTHER] = [KeyPair("LightsailDefaultKeyPair", "cc:dd")]
    source.key_pairs_failure = UpstreamError("GetKeyPairs: AccessDeniedException")
    inventory = Inventory(source, clock)
    (found,) = await inventory.find("win-1")
    assert found.key_pair_fingerprint == ""
    assert inventory.health().ready
    assert inventory.health().detail == ""
    await inventory.close()


async def test_a_name_that_several_have_finds_all_of_them(inventory: Inventory) -> None:
    assert await names(inventory, "web-1") == ["main/eu-west-1/web-1", "main/us-east-1/web-1"]


async def test_account_region_and_name_find_exactly_one(inventory: Inventory) -> None:
    assert await names(inventory, "main/us-east-1/web-1") == ["main/us-east-1/web-1"]


@pytest.mark.parametrize(
    "target",
    ["", "web-9", "nobody/eu-west-1/web-1", "main/eu-west-1/web-9", "main/web-1", "../web-1", "web-1\n", "w" * 300],
)
async def test_what_is_not_there_finds_nothing(inventory: Inventory, target: str) -> None:
    assert await inventory.find(target) == ()


async def test_finding_asks_aws_nothing_while_lists_are_fresh(
    inventory: Inventory, source: ListSource, clock: ManualClock
) -> None:
    for _ in range(100):
        await inventory.find("web-1")
        await inventory.instances()
    clock.pass_by(seconds=59)
    await inventory.find("db-1")
    await settled()
    assert source.calls["instances"] == 3
    assert source.calls["bundles"] == 3


async def test_an_old_list_is_served_at_once_and_renewed_behind_the_scenes(
    inventory: Inventory, source: ListSource, clock: ManualClock
) -> None:
    source.records[IRELAND] = [record("db-1")]
    clock.pass_by(seconds=61)
    assert "main/eu-west-1/web-1" in await names(inventory, "web-1")
    await settled()
    assert "main/eu-west-1/web-1" not in await names(inventory, "web-1")


async def test_lists_are_renewed_without_anybody_asking(source: ListSource, clock: ManualClock) -> None:
    inventory = Inventory(source, clock, Freshness(refresh_every=timedelta(milliseconds=5)))
    await started(inventory)
    await asyncio.sleep(0.1)
    await inventory.close()
    calls = source.calls["instances"]
    assert calls > 6
    await asyncio.sleep(0.02)
    assert source.calls["instances"] == calls


async def test_a_region_whose_answer_does_not_come_keeps_no_other_from_being_renewed(
    source: ListSource, clock: ManualClock
) -> None:
    inventory = Inventory(source, clock, Freshness(refresh_every=timedelta(milliseconds=5)))
    await started(inventory)

    async def hang(place: Place) -> None:
        if place == VIRGINIA:
            await asyncio.Event().wait()

    source.before_answer = hang
    for _ in range(100):
        await asyncio.sleep(0.02)
        if source.calls["instances main/eu-west-1"] > 4:
            break
    else:
        pytest.fail(str(source.calls))
    await inventory.close()


async def test_regions_are_renewed_one_after_the_other(source: ListSource, clock: ManualClock) -> None:
    inventory = Inventory(source, clock, Freshness(refresh_every=timedelta(seconds=1.5)))
    await started(inventory)
    under_way: set[Place] = set()
    together: list[set[Place]] = []
    done = asyncio.Event()

    async def note(place: Place) -> None:
        under_way.add(place)
        together.append(set(under_way))
        await settled()
        under_way.discard(place)
        if len(set().union(*together)) == len(source.places):
            done.set()

    source.before_answer = note
    await asyncio.wait_for(done.wait(), 10)
    assert [each for each in together if len(each) > 1] == []
    await inventory.close()


@pytest.mark.parametrize("target", ["new-1", "main/eu-west-1/new-1"])
async def test_an_instance_that_is_new_is_found_at_the_second_try(
    inventory: Inventory, source: ListSource, target: str
) -> None:
    source.records[IRELAND].append(record("new-1"))
    assert await names(inventory, target) == []
    await settled()
    assert await names(inventory, target) == ["main/eu-west-1/new-1"]


@pytest.mark.parametrize("target", ["nowhere-1", "main/eu-west-1/nowhere-1", "db-1"])
async def test_a_name_that_is_not_there_waits_no_longer_than_one_that_is(
    inventory: Inventory, source: ListSource, target: str
) -> None:
    async def hang(_: Place) -> None:
        await asyncio.Event().wait()

    source.before_answer = hang
    finding = inventory.find(target)
    with pytest.raises(StopIteration):  # it ended without once giving way to anything else
        finding.send(None)


async def test_looking_again_begins_after_whoever_asked_was_answered(source: ListSource) -> None:
    inventory = Inventory(source, freshness=Freshness(before_look=timedelta(milliseconds=50)))
    await started(inventory)
    await inventory.find("nowhere-1")
    await settled()
    assert source.calls["instances"] == 3
    await asyncio.sleep(0.1)
    assert source.calls["instances"] == 2 * 3
    await inventory.close()


async def test_names_that_are_not_there_do_not_hammer_aws(inventory: Inventory, source: ListSource) -> None:
    await asyncio.gather(*(inventory.find(f"missing-{number}") for number in range(100)))
    await settled()
    for number in range(100):
        await inventory.find(f"missing-{number}")
        await settled()
    assert source.calls["instances"] == 2 * 3
    await inventory.find("main/eu-west-1/missing-1")
    await settled()
    assert source.calls["instances"] == 2 * 3


async def test_a_miss_within_the_cool_down_is_looked_after_at_its_end(source: ListSource) -> None:
    freshness = Freshness(before_look=timedelta(0), after_miss=timedelta(milliseconds=100))
    inventory = Inventory(source, freshness=freshness)
    await started(inventory)
    await inventory.find("typo-1")
    await settled()
    source.records[IRELAND].append(record("new-1"))
    assert await names(inventory, "new-1") == []
    await settled()
    assert await names(inventory, "new-1") == []
    await asyncio.sleep(0.15)
    assert await names(inventory, "new-1") == ["main/eu-west-1/new-1"]
    assert source.calls["instances"] == 3 * 3
    await inventory.close()


async def test_an_engineer_who_tries_again_after_a_second_finds_a_new_instance(source: ListSource) -> None:
    inventory = Inventory(source)
    await started(inventory)
    source.records[IRELAND].append(record("new-1"))
    assert await names(inventory, "new-1") == []
    await asyncio.sleep(1)
    assert await names(inventory, "new-1") == ["main/eu-west-1/new-1"]
    await inventory.close()


async def test_a_start_waits_for_nobody_and_a_silent_region_holds_up_no_other_for_long(
    source: ListSource, clock: ManualClock
) -> None:
    gate = asyncio.Event()

    async def hang(place: Place) -> None:
        if place == VIRGINIA:
            await gate.wait()

    source.before_answer = hang
    inventory = Inventory(source, clock)
    inventory.start()
    assert not inventory.health().ready
    async with asyncio.timeout(FIRST_LISTS_SECONDS + 5):
        assert await names(inventory, "db-1") == ["main/eu-west-1/db-1"]
        assert await names(inventory, "web-1") == ["main/eu-west-1/web-1"]
        for target in ("main/us-east-1/web-1", "nowhere-1"):
            with pytest.raises(UpstreamUnavailable, match="no answer yet"):
                await inventory.find(target)
    assert inventory.health().ready
    assert inventory.health().detail == "main/us-east-1: no answer yet"
    gate.set()
    await settled()
    assert inventory.health().detail == ""
    assert len(await inventory.find("web-1")) == 2
    assert source.calls["instances"] == 3
    await inventory.close()


async def test_a_service_that_has_heard_nothing_from_aws_is_not_ready(source: ListSource, clock: ManualClock) -> None:
    inventory = Inventory(source, clock)
    assert not inventory.health().ready


async def test_many_who_wait_for_the_first_list_wait_for_the_same_one(source: ListSource, clock: ManualClock) -> None:
    gate = asyncio.Event()

    async def wait(_: Place) -> None:
        await gate.wait()

    source.before_answer = wait
    inventory = Inventory(source, clock)
    waiting = [asyncio.create_task(inventory.find("web-1")) for _ in range(50)]
    await settled()
    waiting[0].cancel()
    gate.set()
    found = await asyncio.gather(*waiting[1:])
    assert {len(instances) for instances in found} == {2}
    assert source.calls["instances"] == 3
    await inventory.close()


async def test_a_region_that_fails_serves_what_it_said_last_and_is_named(
    inventory: Inventory, source: ListSource, clock: ManualClock
) -> None:
    source.failures[VIRGINIA] = UpstreamUnavailable("GetInstances: ReadTimeoutError")
    clock.pass_by(minutes=5)
    assert len(await inventory.find("web-1")) == 2
    await settled()
    assert len(await inventory.find("web-1")) == 2
    health = inventory.health()
    assert health.component == "lightsail"
    assert health.ready
    assert health.detail == "main/us-east-1: GetInstances: ReadTimeoutError"
    assert inventory.age == timedelta(minutes=5)


async def test_what_a_failing_region_said_is_not_served_for_ever(
    inventory: Inventory, source: ListSource, clock: ManualClock
) -> None:
    source.failures[VIRGINIA] = UpstreamUnavailable("down")
    clock.pass_by(minutes=11)
    assert await names(inventory, "db-1") == ["main/eu-west-1/db-1"]
    with pytest.raises(UpstreamUnavailable):
        await inventory.find("main/us-east-1/web-1")


async def test_a_region_that_was_never_reached_costs_the_others_no_time(source: ListSource, clock: ManualClock) -> None:
    source.failures[VIRGINIA] = UpstreamUnavailable("down")
    inventory = Inventory(source, clock)
    await started(inventory)
    forever = asyncio.Event()

    async def hang(place: Place) -> None:
        if place == VIRGINIA:
            await forever.wait()

    source.before_answer = hang
    clock.pass_by(seconds=20)
    async with asyncio.timeout(1):
        assert await names(inventory, "db-1") == ["main/eu-west-1/db-1"]
        assert len(await inventory.instances()) == 3
        for target in ("main/us-east-1/web-1", "nowhere-1"):
            with pytest.raises(UpstreamUnavailable):
                await inventory.find(target)
    await inventory.close()


async def test_a_region_that_comes_back_is_served_again(source: ListSource, clock: ManualClock) -> None:
    source.failures[VIRGINIA] = UpstreamUnavailable("down")
    inventory = Inventory(source, clock)
    await started(inventory)
    source.failures.clear()
    clock.pass_by(seconds=6)
    with contextlib.suppress(UpstreamUnavailable):
        await inventory.find("main/us-east-1/web-1")  # whoever comes first may still be told no
    await settled()
    assert await names(inventory, "main/us-east-1/web-1") == ["main/us-east-1/web-1"]
    assert inventory.health().detail == ""
    await inventory.close()


async def test_when_all_regions_fail_nothing_is_ready_and_the_reason_is_given(
    source: ListSource, clock: ManualClock
) -> None:
    for place in source.places:
        source.failures[place] = UpstreamError("GetInstances: AccessDeniedException", upstream_code="AccessDenied")
    inventory = Inventory(source, clock)
    await started(inventory)
    assert not inventory.health().ready
    assert inventory.age is None
    for asking in (inventory.find("web-1"), inventory.instances(), inventory.blueprints(), inventory.bundles()):
        with pytest.raises(UpstreamError):
            await asking
    calls = source.calls.total()
    for _ in range(50):
        with pytest.raises(UpstreamError):
            await inventory.find("web-1")
    assert source.calls.total() == calls
    await inventory.close()


async def test_a_blueprint_that_is_new_makes_the_catalogue_be_read_again_once(
    inventory: Inventory, source: ListSource, clock: ManualClock
) -> None:
    source.all_blueprints.append(blueprint("debian_13"))
    source.records[IRELAND] = [record("new-1", blueprint="debian_13")]
    clock.pass_by(minutes=6)
    await inventory.find("new-1")
    await settled()
    (found,) = await inventory.find("new-1")
    assert found.warnings == (
        "The blueprint debian_13 is unknown; the platform is the only one that the bundle supports.",
    )
    await settled()
    (found,) = await inventory.find("new-1")
    assert (found.platform, found.warnings) == (Platform.LINUX_UNIX, ())
    assert source.calls["blueprints"] == 6


async def test_without_a_blueprint_the_only_platform_of_the_bundle_tells(
    inventory: Inventory, source: ListSource, clock: ManualClock
) -> None:
    source.records[OTHER] = [record("old-1", OTHER, blueprint="retired", bundle="medium_win_3_0")]
    clock.pass_by(seconds=61)
    await inventory.find("old-1")
    await settled()
    (found,) = await inventory.find("old-1")
    assert found.platform is Platform.WINDOWS
    assert "retired" in found.warnings[0]


async def test_an_instance_whose_platform_nothing_tells_is_not_there(
    inventory: Inventory, source: ListSource, clock: ManualClock
) -> None:
    source.all_bundles[IRELAND].append(bundle("both", Platform.LINUX_UNIX, Platform.WINDOWS))
    source.records[IRELAND] = [
        record("odd-1", blueprint="retired", bundle="both"),
        record("odd-2", blueprint="retired", bundle="unheard-of"),
    ]
    clock.pass_by(minutes=6)
    await inventory.find("odd-1")
    await settled()
    for _ in range(2):
        assert await inventory.find("odd-1") == ()
        assert await inventory.find("odd-2") == ()
        await settled()
    assert not {"odd-1", "odd-2"} & {instance.ref.name for instance in await inventory.instances()}


async def test_a_bundle_that_does_not_fit_its_blueprint_is_warned_of(
    inventory: Inventory, source: ListSource, clock: ManualClock
) -> None:
    source.records[IRELAND] = [record("odd-1", blueprint="windows_server_2022", bundle="nano_3_0")]
    clock.pass_by(seconds=61)
    await inventory.find("odd-1")
    await settled()
    (found,) = await inventory.find("odd-1")
    assert found.platform is Platform.WINDOWS
    assert len(found.warnings) == 2
    assert "does not support the platform" in found.warnings[0]
    assert "less power" in found.warnings[1]


async def test_bundles_of_a_blueprint_are_those_that_support_and_can_carry_it(
    source: ListSource, clock: ManualClock
) -> None:
    source.all_bundles[IRELAND] = [
        bundle("linux", Platform.LINUX_UNIX, power=5000),
        bundle("weak", Platform.WINDOWS, power=999),
        bundle("enough", Platform.WINDOWS, power=1000),
        bundle("retired", Platform.WINDOWS, power=5000, is_active=False),
    ]
    source.all_bundles[VIRGINIA] = [bundle("elsewhere", Platform.WINDOWS, power=1000)]
    source.all_bundles[OTHER] = []
    inventory = Inventory(source, clock)

    async def ids(blueprint_id: str | None = None, *, include_inactive: bool = False) -> set[str]:
        found = await inventory.bundles(blueprint_id, include_inactive=include_inactive)
        return {item.bundle_id for item in found}

    assert await ids("windows_server_2022") == {"enough", "elsewhere"}
    assert await ids("windows_server_2022", include_inactive=True) == {"enough", "elsewhere", "retired"}
    assert await ids() == {"linux", "weak", "enough", "elsewhere"}
    with pytest.raises(NotFound):
        await inventory.bundles("no_such_blueprint")
    await inventory.close()


async def test_blueprints_are_listed_once_and_inactive_ones_only_on_request(
    source: ListSource, clock: ManualClock
) -> None:
    source.all_blueprints.append(blueprint("centos_7", is_active=False))
    inventory = Inventory(source, clock)
    listed = [item.blueprint_id for item in await inventory.blueprints()]
    assert listed == ["debian_12", "windows_server_2022"]
    assert "centos_7" in [item.blueprint_id for item in await inventory.blueprints(include_inactive=True)]
    await inventory.close()


async def test_one_catalogue_is_enough_to_know_platforms_everywhere(source: ListSource, clock: ManualClock) -> None:
    inventory = Inventory(source, clock)
    await started(inventory)
    source.failures[VIRGINIA] = UpstreamUnavailable("down")
    clock.pass_by(hours=25)
    assert len(await inventory.blueprints()) == 2
    await inventory.close()


async def test_what_is_old_is_read_anew_once_for_all_who_ask(
    inventory: Inventory, source: ListSource, clock: ManualClock
) -> None:
    (before,) = await inventory.find("db-1")
    assert before.read_at == clock()
    source.records[IRELAND] = [replace(record("db-1"), tags={"env": "prod"})]
    clock.pass_by(seconds=20)
    assert await inventory.fresh(before, timedelta(seconds=30)) == before
    asked = source.calls["instances main/eu-west-1"]
    found = await asyncio.gather(*(inventory.fresh(before, timedelta(seconds=10)) for _ in range(5)))
    assert {each.tags["env"] for each in found} == {"prod"}
    assert {each.read_at for each in found} == {clock()}
    assert source.calls["instances main/eu-west-1"] == asked + 1


async def test_what_is_old_and_cannot_be_read_anew_is_refused(
    inventory: Inventory, source: ListSource, clock: ManualClock
) -> None:
    (known,) = await inventory.find("db-1")
    clock.pass_by(seconds=20)
    source.failures[IRELAND] = UpstreamUnavailable("down")
    with pytest.raises(UpstreamUnavailable):
        await inventory.fresh(known, timedelta(seconds=10))
    assert await inventory.fresh(known, timedelta(seconds=30)) == known
    del source.failures[IRELAND]
    source.records[IRELAND] = []
    with pytest.raises(Denied):
        await inventory.fresh(known, timedelta(seconds=10))
