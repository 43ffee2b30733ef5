"""Several brokers on one PostgreSQL: two services, one service of several processes, and every command beside them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import ClientResponse

from broker import state
from broker.settings import load
from tests.doubles.identity import Prover
from tests.end_to_end.places import LINUX, Place, Running, a_place, eventually
from tests.real.postgresql import run

INSTANCES = [{**LINUX, "name": "web-1"}]
ADD = "--account", "main", "--region", "eu-west-1", "--private-key", "team-key.pem"
CHANGED = "convert_to(replace(convert_from(leaf, 'UTF8'), 'corp', 'c0rp'), 'UTF8')"

pytestmark = pytest.mark.real("postgresql")


@pytest.fixture
async def place(tmp_path: Path, postgresql: str) -> AsyncIterator[Place]:
    (tmp_path / "one").mkdir()
    async with a_place(tmp_path / "one", INSTANCES) as place:
        place.environment |= {
            "BROKER__AUDIT__DATABASE": postgresql,
            "BROKER__AUDIT__SIGNING_KEY": "file:shared/audit.key",
        }
        settings = load(place.folder / "broker.toml", place.environment)
        await asyncio.to_thread(lambda: list(state.create(settings)))
        yield place


def another(place: Place) -> Place:
    """Lay out a second replica: the same files, in a folder of its own."""
    folder = place.folder.with_name("two")
    shutil.copytree(place.folder, folder)
    return replace(place, folder=folder, environment=dict(place.environment))


async def names(place: Place) -> list[str]:
    return [event["event"] for event in await place.events()]


async def test_two_services_write_one_log(place: Place, postgresql: str) -> None:
    async with place.serving() as one, another(place).serving() as two:
        answers = [each for _ in range(5) for each in await asyncio.gather(one.issue("web-1"), two.issue("web-1"))]
        assert [answer for answer in answers if answer[0] != 201] == []
        indexes = [document["audit"]["index"] for _, document in answers]
        assert len(set(indexes)) == 10
        status, event = await two.ask(f"/v1/audit/events/{indexes[0]}")
        assert (status, event["event"]["lease_id"]) == (200, answers[0][1]["lease"]["id"])
        assert [await one.stop(), await two.stop()] == [0, 0]
    verified = await place.verify("--require-sealed")
    assert verified.code == 0, verified.out + verified.err
    found = await names(place)
    tampered = run(postgresql, f"UPDATE events SET leaf = {CHANGED} WHERE idx = 7 RETURNING idx")  # noqa: S608 -- our own text
    verified = await place.verify()
    assert verified.code == 1
    assert verified.out.splitlines()[1].split()[:2] == ["edit", str(tampered)]
    assert found.count("credential.issued") == found.count("credential.requested") == 10
    assert found.count("service.started") == found.count("service.stopped") == 2


async def test_one_caller_has_one_minute_for_all_replicas_and_a_lost_table_stops_nobody(
    place: Place, postgresql: str
) -> None:
    place.environment["BROKER__LIMITS__PER_CALLER_PER_MINUTE"] = "6"
    async with place.serving() as one, another(place).serving() as two:
        run(postgresql, "DELETE FROM spent_requests")
        answers = await asyncio.gather(*(each.ask("/v1/whoami") for _ in range(6) for each in (one, two)))
        assert Counter(status for status, _ in answers) == {200: 6, 429: 6}
        assert {document["code"] for status, document in answers if status == 429} == {"rate_limited"}
        run(postgresql, "DROP TABLE spent_requests")
        bob = place.token_with(sub="bob")
        alone = [await two.ask("/v1/whoami", token=bob) for _ in range(8)]
        assert [status for status, _ in alone] == [200] * 6 + [429] * 2


async def test_commands_write_beside_the_services(place: Place) -> None:
    async with place.serving() as service:
        added = await place.broker("keys", "add", "team-key", *ADD)
        assert added.code == 0, added.err
        assert "the running service" not in added.err
        assert (await place.broker("check")).out.count("PROBLEM   audit") == 0
        assert "keys.added" in await names(place)
        exported = await place.broker("audit", "export", "--output", "log.jsonl")
        assert exported.code == 0, exported.err
        verified = await place.verify("--export", str(place.folder / "log.jsonl"))
        assert verified.code == 0, verified.out + verified.err
        assert await service.stop() == 0


async def test_init_makes_a_log_once(place: Place, postgresql: str) -> None:
    assert (await place.broker("init")).code == 0
    assert run(postgresql, "SELECT count(*) FROM checkpoints") == 1
    run(postgresql, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    lost = await place.broker("init")
    assert lost.code != 0
    assert f"{postgresql} is not: restore it" in lost.err
    assert (await place.serve()).code != 0


async def test_a_trigger_in_the_database_is_refused(place: Place, postgresql: str) -> None:
    run(
        postgresql,
        "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER odd BEFORE INSERT ON checkpoints FOR EACH ROW EXECUTE FUNCTION odd()",
    )
    verified = await place.verify()
    assert (verified.code, "the trigger odd" in verified.err) == (2, True)


class TestWorkers:
    """One service of several processes on one socket."""

    @pytest.fixture
    def place(self, place: Place) -> Place:
        place.environment["BROKER__SERVER__WORKERS"] = "2"
        return place

    @asynccontextmanager
    async def serving(self, place: Place) -> AsyncIterator[Running]:
        async with place.serving() as service:
            address = service.url.partition(" ")[0]
            yield replace(service, url=f"https://{address}")

    def workers(self, service: Running) -> set[int]:
        children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
        return {int(pid) for pid in children.read_text().split()}

    async def test_each_of_them_serves(self, place: Place) -> None:
        async with self.serving(place) as service:
            pids = self.workers(service)
            assert len(pids) == 2
            for idle in pids:
                os.kill(idle, signal.SIGSTOP)
                assert [await issue_anew(service) for _ in range(3)] == [201] * 3
                os.kill(idle, signal.SIGCONT)
            assert await service.stop() == 0
        assert (await place.verify("--require-sealed")).code == 0
        events = await place.events()
        assert [event["event"] for event in events].count("credential.issued") == 6
        started = [event["details"]["process"] for event in events if event["event"] == "service.started"]
        assert {int(process.rpartition("/")[2]) for process in started} == pids

    async def test_one_that_dies_is_replaced(self, place: Place) -> None:
        async with self.serving(place) as service:
            victim, survivor = self.workers(service)
            os.kill(victim, signal.SIGKILL)

            async def replaced() -> bool:
                return len(self.workers(service) - {victim, survivor}) == 1 and len(self.workers(service)) == 2

            assert await issue_anew(service) == 201
            await eventually(replaced)
            await until_events(place, "service.started", 3)
            assert await service.stop() == 0
        assert (await place.verify("--require-sealed")).code == 0

    async def test_they_end_with_their_parent(self, place: Place) -> None:
        async with self.serving(place) as service:
            pids = self.workers(service)
            service.process.kill()
            await until_events(place, "service.stopped", 2)

        async def gone() -> bool:
            return not any(os.path.exists(f"/proc/{pid}") for pid in pids)  # noqa: ASYNC240, PTH110 -- no disk

        await eventually(gone)

    async def test_a_mistake_that_all_share_ends_them_all_and_tells_no_password(self, place: Place) -> None:
        locked = place.environment["BROKER__AUDIT__DATABASE"].replace("//app@", "//locked@")
        place.environment |= {"BROKER__AUDIT__DATABASE": locked, "PGPASSWORD": "s3cret"}
        refused, checked = await place.serve(), await place.broker("check")
        assert refused.code != 0
        assert "it refuses the login" in refused.err
        assert "it refuses the login" in checked.out
        assert "s3cret" not in refused.out + refused.err + checked.out + checked.err


async def issue_anew(service: Running) -> int:
    """Ask for a credential over a new connection; answer the status."""
    headers = {"Authorization": f"Bearer {service.token}", "Connection": "close"}
    async with service.session.post(
        service.url + "/v1/credentials", json={"instance": "web-1"}, headers=headers
    ) as response:
        return response.status


async def until_events(place: Place, name: str, number: int) -> None:
    async def are_there() -> bool:
        return len(await place.events("--event", name)) >= number

    await eventually(are_there, 20)


async def test_of_two_services_exactly_one_takes_a_proof(place: Place) -> None:
    place.environment["BROKER__SERVER__PUBLIC_URLS"] = '["https://broker.example.com"]'
    nonces = [""]
    prover = Prover(lambda: datetime.now(UTC), lambda: nonces[-1])
    token = place.token_with(cnf={"jkt": prover.thumbprint})
    address = "https://broker.example.com/v1/whoami"  # of both, as behind a balancer

    async def ask(service: Running, proof: str) -> ClientResponse:
        headers = {"Authorization": f"DPoP {token}", "DPoP": proof, "Host": "broker.example.com"}
        async with service.session.get(f"{service.url}/v1/whoami", headers=headers) as response:
            return response

    def made() -> str:
        return prover.proof(token, htu=address, htm="GET")

    async with place.serving() as one, another(place).serving() as two:
        nonces.append((await ask(one, made())).headers["DPoP-Nonce"])
        for _ in range(5):
            proof = made()
            answers = await asyncio.gather(ask(one, proof), ask(two, proof))
            assert sorted(answer.status for answer in answers) == [200, 401]
