"""Several people who ask one service, or several of its replicas."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from broker import state
from broker.demo.stage import Person, mint
from broker.settings import load
from tests.end_to_end.conftest import Ran
from tests.end_to_end.places import Place, Running

DEV = Person("dev", ("dev",))
LEAD = Person("lead", ("leads", "dev"))
OTHER = Person("other", ("leads",))
DEPUTY = Person("deputy", ("deputies",))
STRANGER = Person("stranger", ())


@dataclass
class Office:
    """A service, and people who ask it."""

    place: Place
    service: Running

    def token(self, person: Person, **claims: object) -> str:
        assert self.place.issuer_key is not None
        return mint(person, self.place.issuer_key, datetime.now(UTC), **claims)

    async def ask(
        self, person: Person, path: str, body: Mapping[str, Any] | None = None, **claims: object
    ) -> tuple[int, Any]:
        return await self.service.ask(path, body, token=self.token(person, **claims))

    async def broker(self, person: Person, *words: str) -> Ran:
        """Run the command of somebody who has logged in."""
        environment = {
            "BROKER_URL": self.service.url,
            "BROKER_TOKEN": self.token(person),
            "BROKER_CA_FILE": str(self.place.folder / "ca.pem"),
        }
        return await self.place.broker(*words, **environment)

    async def fault(self, **fault: object) -> None:
        """Let the embedded Lightsail fail."""
        async with self.service.session.post(f"{self.place.emulator.url}/_emulator/faults", json=fault) as answer:
            assert answer.status < 300, await answer.text()

    async def events(self, *prefixes: str) -> list[dict[str, Any]]:
        """Answer the events whose names begin so, the oldest first."""
        return [event for event in await self.place.events() if event["event"].startswith(prefixes)]


@asynccontextmanager
async def two_replicas(place: Place, database: str) -> AsyncIterator[tuple[Office, Office]]:
    """Serve from one database twice."""
    place.environment["BROKER__AUDIT__DATABASE"] = database
    place.environment["BROKER__AUDIT__SIGNING_KEY"] = "file:shared/audit.key"
    settings = load(place.folder / "broker.toml", place.environment)
    await asyncio.to_thread(lambda: list(state.create(settings)))
    shutil.copytree(place.folder, folder := place.folder.with_name("two"))
    second = replace(place, folder=folder, environment=dict(place.environment))
    async with AsyncExitStack() as stack:
        one, other = [Office(each, await stack.enter_async_context(each.serving())) for each in (place, second)]
        yield one, other
