"""The names of my instances, kept for a few minutes: every `ssh anything` asks whether that is one of them.

The file is a list of names for one service; it says what there is, and decides nothing: the service does.
"""

from __future__ import annotations

import hashlib
import json
import time

from broker.client import folders, names
from broker.client.errors import ClientError, NotReady
from broker.client.whose import service_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from broker.client import Broker

    Factory = Callable[[], Broker]

FRESH = 300.0
"""Seconds for which the names are believed."""

RECENT = 60.0
"""Seconds after which a name that is not among them is looked for again, once, and after a failure anything is."""

PATIENCE = 3.0
"""Seconds that the service has for its answer: somebody waits at a prompt."""

_STRANGERS = 200


def known_instances(broker_factory: Factory, environment: Mapping[str, str]) -> list[str]:
    """Answer the names of the instances that I may reach; old ones when the service does not answer at once."""
    cache = NamesCache(broker_factory, environment)
    cache.refresh(older_than=FRESH)
    return cache.names


def is_known(name: str, cache: NamesCache) -> bool:
    """Tell whether an instance that I may reach is called so, by its name alone or as account/region/name."""
    if not names.is_well_formed(name):
        return False
    cache.refresh(older_than=FRESH)
    if not cache.has(name) and not cache.is_stranger(name) and cache.refresh(older_than=RECENT):
        cache.add_stranger(name)
    return cache.has(name)


class NamesCache:
    """The file, as it is read and written.

    Args:
        broker_factory: connects to the service, when it has to be asked.
        environment: with `BROKER_URL` where that was set, and `XDG_STATE_HOME` or `HOME`.
        clock: seconds since 1970.
        patience: seconds that the service has.
    """

    def __init__(
        self,
        broker_factory: Factory,
        environment: Mapping[str, str],
        clock: Callable[[], float] = time.time,
        patience: float = PATIENCE,
    ) -> None:
        self._connect = broker_factory
        self._clock = clock
        self._patience = patience
        service = service_url(environment)
        self._path = folders.lasting(environment) / "names" / f"{_hashed(service)}.json"
        self._state = _read(self._path)
        # Where `BROKER_URL` was not passed on, what was an instance is one still.
        self._elsewhere = [] if service else _of_any_service(self._path.parent)

    @property
    def names(self) -> list[str]:
        """Bare names, sorted; one that two instances have, as account/region/name."""
        places: list[str] = self._state["instances"]
        bare = [place.rpartition("/")[2] for place in places]
        return sorted(name if bare.count(name) == 1 else place for name, place in zip(bare, places, strict=True))

    def has(self, name: str) -> bool:
        """Tell whether an instance is called so."""
        places: list[str] = [*self._state["instances"], *self._elsewhere]
        return any(name in {place, place.rpartition("/")[2]} for place in places)

    def is_stranger(self, name: str) -> bool:
        """Tell whether this name was looked for in vain since the names were asked for."""
        return name in self._state["strangers"]

    def add_stranger(self, name: str) -> None:
        """Remember a name that was looked for in vain."""
        if not self.has(name):
            self._write({"strangers": [*self._state["strangers"], name][-_STRANGERS:]})

    def refresh(self, *, older_than: float) -> bool:
        """Ask the service when the names are older than so many seconds, but not soon again after a failure.

        Returns:
            Whether there are new ones.
        """
        if self._is_settled(older_than):
            return False
        try:
            with folders.locked(folders.made(self._path.parent) / f"{self._path.stem}.lock", self._patience):
                self._state = _read(self._path)
                return not self._is_settled(older_than) and self._renew(keep=older_than < FRESH)
        except NotReady:
            return False  # another one is asking, and is not answered
        except (OSError, ClientError):
            return self._renew(keep=False)  # nothing can be kept here

    def _is_settled(self, older_than: float) -> bool:
        since_asked, since_failed = (self._clock() - float(self._state[when]) for when in ("asked", "failed"))
        return 0 <= since_asked <= older_than or 0 <= since_failed <= RECENT

    def _renew(self, *, keep: bool) -> bool:
        """Ask, and write down what came of it; `keep` the names that were looked for in vain."""
        found = self._asked()
        if found is None:
            self._write({"failed": self._clock()})
            return False
        strangers = self._state["strangers"] if keep else []
        self._write({"instances": found, "asked": self._clock(), "failed": 0.0, "strangers": strangers})
        return True

    def _asked(self) -> list[str] | None:
        """Ask in a thread of its own, which is left behind when it takes too long."""
        from threading import Thread

        answers: list[list[str]] = []
        thread = Thread(target=lambda: answers.extend(_listed(self._connect)), daemon=True)
        thread.start()
        thread.join(self._patience)
        return answers[0] if answers else None

    def _write(self, changes: dict[str, Any]) -> None:
        """Write it down; where that is not possible, the next command asks again."""
        self._state |= changes
        try:
            folders.made(self._path.parent)
            folders.replace(self._path, json.dumps(self._state))
        except (OSError, ClientError):
            return


def _listed(connect: Factory) -> list[list[str]]:
    """Answer one list of `account/region/name`, or none when the service cannot be asked."""
    try:
        with connect() as broker:
            places = [f"{each['account']}/{each['region']}/{each['name']}" for each in broker.instances()]
    except (ClientError, LookupError, TypeError, AttributeError):
        return []
    return [[place for place in places if names.is_well_formed(place)]]


def _hashed(service: str) -> str:
    return hashlib.sha256(service.encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, Any]:
    """Read what is there; what cannot be read counts as nothing."""
    state: dict[str, Any] = {"asked": 0.0, "failed": 0.0, "instances": [], "strangers": []}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: type(value)(found[name]) for name, value in state.items()}
    except (OSError, ValueError, LookupError, TypeError):
        return state


def _of_any_service(folder: Path) -> list[str]:
    return [name for path in folder.glob("*.json") for name in _read(path)["instances"]]
