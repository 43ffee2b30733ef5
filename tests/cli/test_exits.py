from collections.abc import Iterator

import pytest

from broker import errors
from broker.cli.exits import Exit, exit_of

CONTRACT = {
    "invalid_request": Exit.USAGE,
    "ambiguous_instance": Exit.USAGE,
    "protocol_not_supported": Exit.USAGE,
    "not_found": Exit.USAGE,
    "invalid_token": Exit.DENIED,
    "denied": Exit.DENIED,
    "locked": Exit.DENIED,
    "password_not_ready": Exit.NOT_READY,
    "instance_not_running": Exit.NOT_READY,
    "host_key_changed": Exit.MISMATCH,
    "superseded": Exit.NOT_READY,
    "request_closed": Exit.USAGE,
    "step_up_required": Exit.NEEDS_MORE,
    "reason_required": Exit.NEEDS_MORE,
    "ticket_required": Exit.NEEDS_MORE,
    "approval_required": Exit.NEEDS_MORE,
    "review_required": Exit.NEEDS_MORE,
    "key_not_held": Exit.UNAVAILABLE,
    "password_undecryptable": Exit.UNAVAILABLE,
    "rate_limited": Exit.UNAVAILABLE,
    "budget_exhausted": Exit.UNAVAILABLE,
    "upstream_error": Exit.UNAVAILABLE,
    "upstream_unavailable": Exit.UNAVAILABLE,
    "audit_unavailable": Exit.UNAVAILABLE,
    "overloaded": Exit.UNAVAILABLE,
    "policies_unavailable": Exit.UNAVAILABLE,
    "keys_unavailable": Exit.UNAVAILABLE,
    "provider_unavailable": Exit.UNAVAILABLE,
    "internal_error": Exit.UNAVAILABLE,
}


@pytest.mark.parametrize(("code", "expected"), CONTRACT.items())
def test_each_code_has_its_exit_whatever_its_status(code: str, expected: Exit) -> None:
    assert {exit_of(code, status) for status in (0, 409, 422, 429, 500)} == {expected}


def test_no_code_of_the_service_is_forgotten() -> None:
    assert {error.code for error in _family(errors.BrokerError)} <= CONTRACT.keys()


@pytest.mark.parametrize(
    ("status", "expected"), [(400, 2), (401, 3), (403, 3), (404, 2), (429, 7), (500, 7), (502, 7), (504, 7)]
)
def test_what_stands_in_between_is_judged_by_its_status(status: int, expected: int) -> None:
    assert exit_of("", status) == expected


def test_the_numbers_are_those_of_the_contract() -> None:
    assert sorted(Exit) == [0, 1, 2, 3, 4, 5, 6, 7, 130]


def _family(error: type[errors.BrokerError]) -> Iterator[type[errors.BrokerError]]:
    yield error
    for child in error.__subclasses__():
        yield from _family(child)
