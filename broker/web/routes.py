"""What a route is: a path, a door, the models of what goes in and comes out, and a handler that never sees aiohttp."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from broker.errors import BrokerError
from broker.identity.sessions import Session
from broker.model import Caller, Source

HTML = "text/html"


class Input(BaseModel):
    """What comes in: nothing in it is unknown, and what is wrong with it is said without repeating it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Output(BaseModel):
    """What goes out."""

    model_config = ConfigDict(frozen=True)


class Nothing(Input):
    """No body, or no query parameters."""


Q = TypeVar("Q", bound=Input)
B = TypeVar("B", bound=Input)


@dataclass(frozen=True, slots=True)
class Visit(Generic[Q, B]):
    """One request, as a handler sees it: parsed, bounded, and with nothing of the wire left."""

    request_id: str
    source: Source
    service: str
    """Scheme, host and port under which the caller knows us."""
    path: Mapping[str, str]
    query: Q
    body: B
    idempotency_key: str = ""
    if_none_match: str = ""
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of an open page only: nothing of them is believed yet."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler answers. `content` is made JSON; bytes go out as they are under `content_type`.

    An async generator of bytes is sent part by part, as fast as it is taken; when it fails, the connection is cut, so
    that nobody takes a part for the whole.
    """

    content: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True, kw_only=True)
class Route(Generic[Q, B]):
    """A path of the service. Use `Open` or `Guarded`: a route without a door cannot be written down."""

    method: str
    path: str
    summary: str
    query: type[Q]
    body: type[B]
    answer: type[BaseModel] | None = None
    answer_type: str = "application/json"
    other_types: tuple[str, ...] = ()
    """What else the answer may be written in."""
    status: int = 200
    also: Mapping[int, str] = field(default_factory=dict)
    """Other statuses that answer the same, and what they mean; 304 answers nothing."""
    errors: tuple[type[BrokerError], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Open(Route[Q, B]):
    """A door that stands open: health, metrics, and what describes the service."""

    handler: Callable[[Visit[Q, B]], Awaitable[Answer]]


@dataclass(frozen=True, kw_only=True)
class Guarded(Route[Q, B]):
    """A door that lets in only whom `identity` vouches for."""

    handler: Callable[[Visit[Q, B], Caller], Awaitable[Answer]]


@dataclass(frozen=True, kw_only=True)
class Page(Open[Q, B]):
    """An open door for people with a browser: it takes forms, and its errors are pages."""

    answer_type: str = HTML


@dataclass(frozen=True, kw_only=True)
class SignedIn(Route[Q, B]):
    """A door that lets in only people with a session of the console. A form is taken from our own pages alone."""

    handler: Callable[[Visit[Q, B], Session], Awaitable[Answer]]
    answer_type: str = HTML


AnyRoute = Open[Q, B] | Guarded[Q, B] | SignedIn[Q, B]


def guarded_get(
    path: str,
    summary: str,
    handler: Callable[[Visit[Q, Nothing], Caller], Awaitable[Answer]],
    *,
    query: type[Q],
    answer: type[BaseModel],
    answer_type: str = "application/json",
    also: Mapping[int, str] | None = None,
    errors: tuple[type[BrokerError], ...] = (),
) -> Guarded[Q, Nothing]:
    """Write down a route that looks and changes nothing."""
    return Guarded(
        method="GET",
        path=path,
        summary=summary,
        query=query,
        body=Nothing,
        answer=answer,
        answer_type=answer_type,
        also=also or {},
        errors=errors,
        handler=handler,
    )
