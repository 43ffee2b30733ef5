"""A `Secret` shows itself to nobody who does not ask for it by name."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import pprint
from collections.abc import Callable
from dataclasses import dataclass

import orjson
import pytest
from pydantic import TypeAdapter

from broker.model import RdpCredential, Secret

CANARY = "S3cret-Admin-Pw!"
HELD = RdpCredential(password=Secret(CANARY), certificate_sha256=(), file="")


@dataclass(frozen=True)
class Holder:
    secret: Secret


WRITTEN: dict[str, Callable[[Secret], str]] = {
    "repr": repr,
    "str": str,
    "format": lambda secret: f"{secret} {secret!r} {secret!s} {secret:>40}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - how logging writes
    "str.format": "{0} {0!r:.3}".format,
    "in a list": lambda secret: f"{[secret]} { ({'a': secret}) }",
    "in a dataclass": lambda secret: f"{Holder(secret)} {HELD}",
    "in an exception": lambda secret: f"{ValueError(secret)} {KeyError(secret)!r}",
    "pretty": pprint.pformat,
    "a log record": lambda secret: logging.LogRecord("n", 30, "", 1, "%s %r", (secret, secret), None).getMessage(),
    "json with a default": lambda secret: json.dumps(secret, default=str),
    "orjson with a default": lambda secret: orjson.dumps(secret, default=str).decode(),
}


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN.keys())
def test_however_it_is_written_it_is_masked(write: Callable[[Secret], str]) -> None:
    text = write(Secret(CANARY))
    assert CANARY not in text
    assert CANARY[:4] not in text


TAKEN: dict[str, Callable[[Secret], object]] = {
    **{f"pickle {protocol}": lambda secret, p=protocol: pickle.dumps(secret, p) for protocol in range(6)},  # type: ignore[misc] # mypy knows no default of a lambda
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "asdict": lambda secret: dataclasses.asdict(Holder(secret)),
    "json": json.dumps,
    "orjson": orjson.dumps,
    "orjson of a dataclass": lambda secret: orjson.dumps(Holder(secret)),
    "pydantic": lambda secret: TypeAdapter(object).dump_json(secret),
    "vars": vars,
    "iteration": list,  # type: ignore[dict-item] # the point of the test
    "addition": lambda secret: secret + "",  # type: ignore[operator] # the point of the test
}


@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN.keys())
def test_nobody_takes_it_along(take: Callable[[Secret], object]) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        take(Secret(CANARY))
    assert CANARY not in str(refused.value)


def test_two_are_never_compared_by_what_they_hold() -> None:
    secret = Secret(CANARY)
    assert secret == secret  # noqa: PLR0124 - itself alone
    assert secret != Secret(CANARY)
    assert secret != CANARY
    assert len({secret, Secret(CANARY)}) == 2


def test_who_asks_by_name_gets_it() -> None:
    assert Secret(CANARY).reveal() == CANARY
