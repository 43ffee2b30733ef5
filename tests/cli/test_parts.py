"""Libraries that are too old are refused by name."""

from __future__ import annotations

from broker.cli.parts import floors, problems


def test_what_is_installed_here_is_good_enough() -> None:
    assert list(problems()) == []


def test_the_floors_are_those_of_the_distribution() -> None:
    lowest = floors()
    assert {"pyjwt", "aiohttp", "cryptography", "sqlalchemy"} <= set(lowest)
    assert "keyring" not in lowest


def test_what_is_too_old_or_missing_or_pure_python_is_named() -> None:
    found = list(problems({"aiohttp": "99.0", "pyjwt": "1.0", "no-such-part": "2.0"}, parser="aiohttp.http_parser"))
    assert [problem.split()[0] for problem in found] == ["aiohttp", "no-such-part", "aiohttp"]
    assert "99.0 or newer is needed, and this is 3." in found[0]
    assert "it is not installed" in found[1]
