"""One prepared ground for the tests of a module; the broker's modules are loaded once for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.crash.ground import Ground, a_ground
from tests.real.forks import Forks


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    with Forks() as forks:
        yield forks


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    async with a_ground(tmp_path_factory.mktemp("ground") / "house", forks) as ground:
        yield ground
