"""When the service is asked for names, and when it is not."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from broker.client.errors import Unreachable
from broker.client.names_cache import NamesCache, is_known, known_instances
from tests.doubles.client import instance


class ServiceDesk:
    """A Broker that lists, and counts how often."""

    def __init__(self, *listed: Any) -> None:
        self.listed = list(listed)
        self.calls = 0
        self.fails = False
        self.gate: threading.Event | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""

    def instances(self) -> list[Any]:
        self.calls += 1
        if self.gate:
            self.gate.wait(5)
        if self.fails:
            raise Unreachable("no")
        return self.listed


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def desk() -> ServiceDesk:
    return ServiceDesk(instance("web-1"), instance("db-1"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "BROKER_URL": "https://broker.example"}


def cache(desk: ServiceDesk, environment: Mapping[str, str], clock: Clock, patience: float = 3) -> NamesCache:
    connect: Any = lambda: desk  # noqa: E731  # stands in for a Broker, of which one method is used
    return NamesCache(connect, environment, clock, patience)


def test_names_are_asked_for_once_in_a_while(desk: ServiceDesk, environment: dict[str, str], clock: Clock) -> None:
    def known(name: str) -> bool:
        return is_known(name, cache(desk, environment, clock))

    assert [known("web-1"), known("db-1"), known("main/eu-west-1/web-1")] == [True, True, True]
    assert desk.calls == 1
    clock.now += 299
    assert known("web-1")
    assert desk.calls == 1
    clock.now += 2
    assert known("web-1")
    assert desk.calls == 2


def test_a_name_that_is_none_costs_one_call_and_then_nothing(
    desk: ServiceDesk, environment: dict[str, str], clock: Clock
) -> None:
    def known(name: str) -> bool:
        return is_known(name, cache(desk, environment, clock))

    assert known("web-1")
    assert not known("gitserver")  # the list is new
    assert desk.calls == 1
    clock.now += 61
    assert [known("other"), known("other"), known("gitserver")] == [False, False, False]
    assert desk.calls == 2
    desk.listed.append(instance("other"))
    clock.now += 301
    assert known("other")  # an instance that is new is found in time
    assert desk.calls == 3


def test_a_new_instance_is_found_after_a_minute(desk: ServiceDesk, environment: dict[str, str], clock: Clock) -> None:
    assert is_known("web-1", cache(desk, environment, clock))
    desk.listed.append(instance("new"))
    clock.now += 61
    assert is_known("new", cache(desk, environment, clock))


def test_a_service_that_fails_is_left_alone_for_a_minute_and_old_names_hold(
    desk: ServiceDesk, environment: dict[str, str], clock: Clock
) -> None:
    assert is_known("web-1", cache(desk, environment, clock))
    desk.fails = True
    clock.now += 4000
    assert [is_known(name, cache(desk, environment, clock)) for name in ("web-1", "other", "web-1")] == [
        True, False, True,
    ]  # fmt: skip
    assert desk.calls == 2
    clock.now += 61
    assert is_known("web-1", cache(desk, environment, clock))
    assert desk.calls == 3


def test_a_service_that_is_slow_is_not_waited_for(desk: ServiceDesk, environment: dict[str, str], clock: Clock) -> None:
    desk.gate = threading.Event()
    assert not is_known("web-1", cache(desk, environment, clock, patience=0.05))
    desk.gate.set()
    clock.now += 61
    assert is_known("web-1", cache(desk, environment, clock))


@pytest.mark.parametrize("name", ["", "-x", "a'b", "a b", "x" * 300, "a/b", "a/b/c/d", "$(id)", "ä", "A/b/c"])
def test_what_can_be_no_name_is_not_looked_for(
    name: str, desk: ServiceDesk, environment: dict[str, str], clock: Clock
) -> None:
    assert not is_known(name, cache(desk, environment, clock))
    assert desk.calls == 0


def test_a_name_that_two_have_is_listed_with_its_place(desk: ServiceDesk, environment: dict[str, str]) -> None:
    desk.listed.append(instance("web-1", region="us-east-1"))
    connect: Any = lambda: desk  # noqa: E731  # as above

    assert known_instances(connect, environment) == ["db-1", "main/eu-west-1/web-1", "main/us-east-1/web-1"]


def test_names_that_could_do_harm_are_left_out(desk: ServiceDesk, environment: dict[str, str]) -> None:
    desk.listed += [instance("x'; id #"), instance("a\nb"), instance("-oProxyCommand=x")]
    connect: Any = lambda: desk  # noqa: E731  # as above

    assert known_instances(connect, environment) == ["db-1", "web-1"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"asked": "x", "failed": 0, "instances": 7, "strangers": []}'])
def test_a_file_that_cannot_be_read_is_written_anew(
    content: str, desk: ServiceDesk, environment: dict[str, str], clock: Clock
) -> None:
    assert is_known("web-1", cache(desk, environment, clock))
    (file,) = Path(environment["HOME"]).rglob("*.json")
    file.write_text(content)
    assert is_known("web-1", cache(desk, environment, clock))
    assert desk.calls == 2


def test_many_at_once_ask_once(desk: ServiceDesk, environment: dict[str, str], clock: Clock) -> None:
    desk.gate = threading.Event()
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append(is_known("web-1", cache(desk, environment, clock))))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    desk.gate.set()
    for thread in threads:
        thread.join()

    assert (found, desk.calls) == ([True] * 10, 1)


def test_without_the_address_of_the_service_what_was_an_instance_is_one_still(
    desk: ServiceDesk, environment: dict[str, str], clock: Clock
) -> None:
    assert is_known("web-1", cache(desk, environment, clock))
    del environment["BROKER_URL"]
    desk.fails = True
    assert [is_known(name, cache(desk, environment, clock)) for name in ("web-1", "elsewhere")] == [True, False]


def test_where_nothing_can_be_written_the_service_is_asked_each_time(
    desk: ServiceDesk, environment: dict[str, str], clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / ".local").write_text("in the way")
    assert is_known("web-1", cache(desk, environment, clock))
    assert is_known("web-1", cache(desk, environment, clock))
    assert desk.calls == 2
