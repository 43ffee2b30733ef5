"""Errors on the wire: `application/problem+json` (RFC 9457). Nothing of the input is repeated."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import BaseModel, ValidationError

from broker.errors import (
    AuditUnavailable,
    BrokerError,
    BudgetExhausted,
    Conflict,
    InvalidRequest,
    InvalidToken,
    KeysUnavailable,
    NotFound,
    RateLimited,
    Refused,
    StepUpRequired,
    Unavailable,
    Unopenable,
    UpstreamError,
    UpstreamUnavailable,
)
from broker.model import Obligation, Step

CONTENT_TYPE = "application/problem+json"

# The nearest class of an error decides.
_STATUS: dict[type[BrokerError], HTTPStatus] = {
    InvalidRequest: HTTPStatus.BAD_REQUEST,
    InvalidToken: HTTPStatus.UNAUTHORIZED,
    StepUpRequired: HTTPStatus.UNAUTHORIZED,
    Refused: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Unopenable: HTTPStatus.UNPROCESSABLE_ENTITY,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    BudgetExhausted: HTTPStatus.TOO_MANY_REQUESTS,
    UpstreamError: HTTPStatus.BAD_GATEWAY,
    UpstreamUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    AuditUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    KeysUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    BrokerError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class StepOut(BaseModel):
    """One step that would turn a refusal into a permit, as exactly as the policies tell; null where they do not.

    `acr_values` and `max_age` (seconds) are those of RFC 9470; `pattern` is what a reason or ticket has to look like,
    with `*` for any text; `approvals` is how many are needed, and `approvers` whom the policies name.
    """

    obligation: Obligation
    acr_values: list[str] | None = None
    max_age: int | None = None
    pattern: str | None = None
    approvals: int | None = None
    approvers: list[str] | None = None

    @classmethod
    def of(cls, step: Step) -> StepOut:
        """Write a step down."""
        return cls(
            obligation=step.obligation,
            acr_values=list(step.acr_values) or None,
            max_age=step.max_age,
            pattern=step.pattern or None,
            approvals=step.approvals or None,
            approvers=list(step.approvers) or None,
        )


class Problem(BaseModel):
    """The body of every error (RFC 9457). `code` is stable; `next` says what to do now, `steps` says it to programs."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    next: str | None = None
    steps: list[StepOut] | None = None
    choices: list[str] | None = None
    upstream_code: str | None = None
    retry_after: int | None = None


def status_of(kind: type[BrokerError]) -> HTTPStatus:
    """Answer the HTTP status of a kind of error."""
    return next(_STATUS[ancestor] for ancestor in kind.__mro__ if ancestor in _STATUS)


def problem(error: BrokerError, request_id: str, status: HTTPStatus | None = None) -> Problem:
    """Write an error down for the caller."""
    return Problem(
        type=f"urn:lightsail-credential-broker:problem:{error.code}",
        title=error.sentence,
        status=status or status_of(type(error)),
        detail=error.detail,
        code=error.code,
        request_id=request_id,
        next=error.next_step or None,
        steps=[StepOut.of(step) for step in error.steps] or None if isinstance(error, Refused) else None,
        choices=list(error.choices) or None,
        upstream_code=error.upstream_code or None,
        retry_after=error.retry_after,
    )


def describe(error: ValidationError) -> str:
    """Say what is wrong with an input, by place and rule, without repeating any of it."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(sorted({_fault(str(f["type"]), f["loc"], str(f["msg"])) for f in faults}))[:500]


def _fault(kind: str, place: tuple[int | str, ...], message: str) -> str:
    if kind == "extra_forbidden":
        return "there is a member or parameter that is not known here"
    message = message.removeprefix("Value error, ")
    return f"{place[0]}: {message}" if place else message
