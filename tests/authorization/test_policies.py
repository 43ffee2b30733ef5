import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from broker.authorization.loading import PoliciesRefused
from broker.authorization.policies import Policies
from broker.authorization.snapshot import PolicySnapshot
from broker.errors import PoliciesUnavailable
from broker.model import Action, Caller, Instance, Obligation, RequestContext

PERMIT = '@id("all") permit(principal, action == Action::"ssh", resource);'
FORBID = '@id("none") forbid(principal, action == Action::"ssh", resource);'
BROKEN = '@id("broken") permit(principal, action == Action::"fly", resource);'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "a.cedar").write_text(PERMIT)
    return tmp_path


async def test_nobody_decides_before_policies_are_loaded(
    directory: Path, alice: Caller, web: Instance, context: RequestContext
) -> None:
    policies = Policies(directory)
    assert not policies.health().ready
    with pytest.raises(PoliciesUnavailable):
        policies.decide(alice, Action.SSH, web, context)
    with pytest.raises(PoliciesUnavailable):
        await policies.decide_each(alice, Action.SSH, [web], context)


def test_a_broken_set_is_refused_at_start(directory: Path) -> None:
    (directory / "b.cedar").write_text(BROKEN)
    policies = Policies(directory)
    with pytest.raises(PoliciesRefused, match=r"b\.cedar:1:"):
        policies.load()
    assert not policies.health().ready


async def test_a_new_set_is_taken_in(directory: Path, alice: Caller, web: Instance, context: RequestContext) -> None:
    policies = Policies(directory)
    before = policies.load().digest
    (directory / "b.cedar").write_text(FORBID)
    fresh = await policies.reload()
    assert fresh is not None
    decision = policies.decide(alice, Action.SSH, web, context)
    assert (decision.allowed, decision.policies, decision.digest) == (False, ("none",), fresh.digest)
    assert fresh.digest != before


async def test_a_broken_set_keeps_the_old_one_and_shows_by_name_until_it_is_mended(
    directory: Path, alice: Caller, web: Instance, context: RequestContext
) -> None:
    policies = Policies(directory)
    digest = policies.load().digest
    (directory / "a.cedar").write_text(FORBID)
    (directory / "b.cedar").write_text(BROKEN)
    assert await policies.reload() is None
    assert (policies.health().component, policies.health().ready) == ("policies", False)
    assert "b.cedar:1:" in policies.health().detail
    decision = policies.decide(alice, Action.SSH, web, context)
    assert (decision.allowed, decision.digest) == (True, digest)
    (directory / "b.cedar").unlink()
    assert await policies.reload() is not None
    assert policies.health().ready
    assert not policies.decide(alice, Action.SSH, web, context).allowed


async def test_going_back_to_the_old_files_mends_too(directory: Path) -> None:
    policies = Policies(directory)
    policies.load()
    (directory / "b.cedar").write_text(BROKEN)
    await policies.reload()
    (directory / "b.cedar").unlink()
    assert await policies.reload() is None
    assert policies.health().ready


async def test_policies_that_vanish_keep_the_old_set(directory: Path) -> None:
    policies = Policies(directory / "sub")
    (directory / "sub").mkdir()
    (directory / "sub" / "a.cedar").write_text(PERMIT)
    policies.load()
    (directory / "sub" / "a.cedar").unlink()
    (directory / "sub").rmdir()
    assert await policies.reload() is None
    assert not policies.health().ready
    assert policies.snapshot.rules


async def test_a_change_is_noticed_by_the_watch(directory: Path) -> None:
    policies = Policies(directory)
    policies.load()
    heard: asyncio.Queue[PolicySnapshot | None] = asyncio.Queue()
    watch = asyncio.create_task(policies.watch(heard.put, interval=0.01))
    try:
        (directory / "b.cedar").write_text(FORBID)
        fresh = await asyncio.wait_for(heard.get(), 20)
        assert fresh is not None
        assert "none" in fresh.rules
        assert heard.empty()
    finally:
        watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch


async def test_a_file_that_is_still_being_written_is_not_taken_in(directory: Path) -> None:
    policies = Policies(directory)
    policies.load()
    heard: asyncio.Queue[PolicySnapshot | None] = asyncio.Queue()
    watch = asyncio.create_task(policies.watch(heard.put, interval=0.2))
    try:
        with (directory / "b.cedar").open("w") as file:
            for line in ("// this file forbids", '@id("none")', "forbid(principal, action, resource);") * 5:
                file.write(f"{line}\n" if "id" not in line else f"// {line}\n")
                file.flush()
                await asyncio.sleep(0.1)
                assert heard.empty()
            file.truncate(0)
            file.seek(0)
            file.write(FORBID)
        fresh = await asyncio.wait_for(heard.get(), 20)
        assert fresh is not None
        assert "none" in fresh.rules
    finally:
        watch.cancel()


async def test_a_directory_that_went_away_shows_without_its_path(directory: Path) -> None:
    policies = Policies(directory)
    policies.load()
    await asyncio.to_thread(directory.rename, directory.with_name("elsewhere"))
    assert await policies.reload() is None
    assert "there is no such directory" in policies.health().detail
    assert "/" not in policies.health().detail


async def test_a_file_without_any_policy_is_refused(directory: Path) -> None:
    policies = Policies(directory)
    policies.load()
    (directory / "a.cedar").write_text("// everything was here a moment ago\n")
    assert await policies.reload() is None
    assert "a.cedar: there is no policy in this file" in policies.health().detail


async def test_a_file_of_the_same_size_and_a_new_time_is_a_change(directory: Path) -> None:
    policies = Policies(directory)
    policies.load()
    assert not await policies.changed()
    stamp = time.time_ns() + 5_000_000_000
    os.utime(directory / "a.cedar", ns=(stamp, stamp))
    assert await policies.changed()
    await policies.reload()
    assert not await policies.changed()


async def test_a_broken_set_is_not_checked_again_until_it_changes(directory: Path) -> None:
    policies = Policies(directory)
    policies.load()
    (directory / "b.cedar").write_text(BROKEN)
    assert await policies.changed()
    await policies.reload()
    assert not await policies.changed()


async def test_reloads_at_once_take_turns(directory: Path) -> None:
    policies = Policies(directory)
    policies.load()
    (directory / "b.cedar").write_text(FORBID)
    results = await asyncio.gather(*(policies.reload() for _ in range(3)))
    assert [fresh is not None for fresh in results].count(True) == 1


async def test_a_list_is_decided_by_one_set_though_another_comes_in_meanwhile(
    directory: Path, alice: Caller, web: Instance, context: RequestContext
) -> None:
    policies = Policies(directory)
    policies.load()
    many = [replace(web, ref=replace(web.ref, name=f"web-{n}")) for n in range(300)]
    (directory / "b.cedar").write_text(FORBID)
    reload = asyncio.create_task(policies.reload())
    rounds = [await policies.decide_each(alice, Action.SSH, many, context)]
    while rounds[-1][0].allowed:
        rounds.append(await policies.decide_each(alice, Action.SSH, many, context))
    await reload
    assert all(len({decision.digest for decision in decisions}) == 1 for decisions in rounds)
    assert all(len(decisions) == 300 for decisions in rounds)


def test_obligations_are_sought_only_when_asked_for(
    tmp_path: Path, alice: Caller, web: Instance, context: RequestContext
) -> None:
    (tmp_path / "a.cedar").write_text('@id("m") permit(principal, action, resource) when { context.mfa };')
    policies = Policies(tmp_path)
    policies.load()
    assert policies.decide(alice, Action.SSH, web, context).obligations == ()
    assert policies.decide(alice, Action.SSH, web, context, obliging=True).obligations == (Obligation.MFA,)
    assert policies.decide(replace(alice, mfa=True), Action.SSH, web, context, obliging=True).obligations == ()
