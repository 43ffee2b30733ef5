"""A disk, and a broker, that stand still for longer than anybody waits. Left out unless asked for: `make test-long`."""

from __future__ import annotations

import asyncio
import signal

import pytest

from broker.emulator import parse_faults
from tests.crash.faults import GONE
from tests.crash.ground import Ground
from tests.crash.points import Aftermath, wrongs_after
from tests.end_to_end.places import eventually

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.real("strace")
async def test_a_sync_that_hangs_refuses_everybody_and_what_it_wrote_is_withheld(ground: Ground) -> None:
    folder, since = ground.copy(), len(ground.emulator.calls)
    hang = ("-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=13000000:when=2")
    async with ground.serving(folder) as service, service.attached(*hang):
        waiting = asyncio.create_task(service.ask([("web-1",)]))

        async def silent() -> bool:
            return await service.readiness() == (503, GONE)

        await eventually(silent)
        shed = await service.ask([("web-2", "web-3")])
        assert await silent()
        replies = [*await waiting, *shed]
        assert {(reply.status, reply.document["code"]) for reply in replies} == {(503, "audit_unavailable")}

        async def well() -> bool:
            return await service.readiness() == (200, "")

        await eventually(well)
        later = await service.ask([("web-5",)])
        assert [reply.status for reply in later] == [201]
        status = await service.stop()
        events = [event["event"] for event in service.events() if event.get("instance", {}).get("name") == "web-1"]
    assert events == ["credential.requested", "credential.issued", "credential.withheld"]
    aftermath = Aftermath(folder, [*replies, *later], ground.asked_of_aws(since), status)
    assert await wrongs_after(ground, aftermath) == []


async def test_a_broker_that_was_stopped_for_longer_than_its_deadlines_goes_on_truthfully(ground: Ground) -> None:
    folder, since = ground.copy(), len(ground.emulator.calls)
    fault = {"operation": "GetInstanceAccessDetails", "kind": "delay:1s", "times": 1}
    ground.emulator.faults.add(parse_faults([fault]))
    async with ground.serving(folder) as service:
        waiting = asyncio.create_task(service.ask([("web-1",)]))

        async def asked() -> bool:
            return "web-1" in ground.asked_of_aws(since)

        await eventually(asked)
        service.fork.signal(signal.SIGSTOP)
        await asyncio.sleep(13)
        service.fork.signal(signal.SIGCONT)
        replies = await waiting
        assert replies[0].status in {201, 503}

        async def well() -> bool:
            return await service.readiness() == (200, "")

        await eventually(well)
        later = await service.ask([("web-5",)])
        status = await service.stop()
    aftermath = Aftermath(folder, [*replies, *later], ground.asked_of_aws(since), status)
    assert await wrongs_after(ground, aftermath) == []
