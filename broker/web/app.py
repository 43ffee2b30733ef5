"""The edge: aiohttp on one side, handlers that never see it on the other."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from http import HTTPStatus
from time import perf_counter
from typing import Any, cast
from urllib.parse import quote
from uuid import uuid4

import orjson
import structlog
from aiohttp import ClientPayloadError, HttpVersion10, HttpVersion11, web
from pydantic import BaseModel

from broker.errors import BrokerError, InvalidRequest, InvalidToken, NonceNeeded, NotFound, Overloaded, StepUpRequired
from broker.identity.binding import ALGORITHMS
from broker.identity.faults import Fault
from broker.model import Caller, Presented, Secret, Source
from broker.observability import AnsweredRequest, Metrics, RequestObserver
from broker.stages import Span, measured
from broker.web import parsing
from broker.web.connections import TAKE_SECONDS
from broker.web.doors import Doors
from broker.web.problems import CONTENT_TYPE, Problem, problem, status_of
from broker.web.public_urls import PublicUrls
from broker.web.routes import HTML, Answer, AnyRoute, Guarded, Input, Page, SignedIn, Visit

HANDLER_SECONDS = 60.0
"""No handler takes longer; its own deadlines towards AWS, the log and others end earlier."""
BODY_SECONDS = 10
"""How long a client may take to send its body."""

SESSION = "__Host-broker-console"
"""The cookie of a session of the console."""
LOGIN = "__Host-broker-login"
"""The cookie of a login at the provider that is under way."""
CONSOLE = "/console"
CALLBACK = "/console/callback"

_SPOKEN = {HttpVersion10, HttpVersion11}
"""The parser takes others for HTTP too."""
_ALGORITHMS = " ".join(ALGORITHMS)
_log = structlog.get_logger("broker.web")


class _MethodNotAllowed(InvalidRequest):
    sentence = "This route does not know this method."


class _TooLarge(InvalidRequest):
    sentence = "The request is too large."


class _UnsupportedEncoding(InvalidRequest):
    sentence = "Send the body as it is, without Content-Encoding."


_EDGE_STATUS: dict[type[BrokerError], HTTPStatus] = {
    _MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    _TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    _UnsupportedEncoding: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
}


@dataclass(frozen=True, slots=True)
class _Arrival:
    """From where a request came, and under which address of ours."""

    source: Source
    service: str


@dataclass(slots=True)
class _Trace:
    """What the one log line of a request will say."""

    request_id: str
    route: str = "-"
    caller: Caller | None = None
    code: str = ""
    cause: str = ""
    is_page: bool = False
    spans: list[Span] = field(default_factory=list)
    form_token: str = field(default="", repr=False)


_TRACE = web.RequestKey("trace", _Trace)


class Edge:
    """Makes the application out of routes and doors."""

    def __init__(
        self,
        doors: Doors,
        metrics: Metrics,
        trusted_proxies: Sequence[parsing.Network] = (),
        body_seconds: float = BODY_SECONDS,
        handler_seconds: float = HANDLER_SECONDS,
        public_urls: PublicUrls | None = None,
        error_page: Callable[[Problem], Answer] | None = None,
        told: Iterable[RequestObserver] = (),
    ) -> None:
        self._doors = doors
        self._metrics = metrics
        self._trusted = tuple(trusted_proxies)
        self._body_seconds = body_seconds
        self._handler_seconds = handler_seconds
        self._public_urls = public_urls or PublicUrls()
        self._error_page = error_page
        self._told = (metrics, *told)

    def application(self, routes: Iterable[AnyRoute[Any, Any]]) -> web.Application:
        """Mount the routes. Their `Open` or `Guarded` type is the only way to a handler."""
        application = web.Application(middlewares=[self._every_request], client_max_size=parsing.MAX_BODY)
        application.on_response_prepare.append(_dress)
        for route in routes:
            # A partial of a plain function, so that a test can ask what is mounted for its route.
            handle = partial(Edge._handle, self, route)
            application.router.add_route(route.method, route.path, handle, expect_handler=_expect)
        return application

    async def _handle(self, route: AnyRoute[Input, Input], request: web.Request) -> web.StreamResponse:
        trace = request[_TRACE]
        trace.route, trace.is_page = route.path, route.answer_type == HTML
        if request.version not in _SPOKEN:
            raise InvalidRequest(detail="Speak HTTP/1.1.")
        if isinstance(route, SignedIn):
            return await self._show(route, request, trace)
        if not isinstance(route, Guarded):
            self._check_origin(request, route)
            visit = await self._visit(route, request, self._arrival(request), trace)
            return await _respond(await self._in_time(route.handler(visit)), request)
        # Who comes in is asked outside: strangers, and the keys of a slow issuer, take nobody's place inside.
        arrival = self._arrival(request)
        presented = _presented(request, arrival.service)
        trace.caller = await self._doors.admit(presented, arrival.source, trace.request_id, route.path)
        # So is the body read, which may come slowly; who was locked meanwhile comes no further.
        visit = await self._visit(route, request, arrival, trace)
        async with self._doors.admission:
            await self._doors.hold_up(trace.caller, arrival.source, trace.request_id, route.path)
            return await _respond(await self._in_time(route.handler(visit, trace.caller)), request)

    async def _show(self, route: SignedIn[Input, Input], request: web.Request, trace: _Trace) -> web.StreamResponse:
        """Let in who is signed in; their cookie goes on from now."""
        arrival = self._arrival(request)
        self._check_origin(request, route)
        cookie = request.cookies.get(SESSION, "")
        session = await self._doors.recognize(cookie, arrival.source, trace.request_id, route.path)
        trace.caller = session.caller
        visit = await self._visit(route, request, arrival, trace)
        if request.method != "GET":
            self._doors.check_form(session, trace.form_token)
        async with self._doors.admission:
            await self._doors.hold_up(trace.caller, arrival.source, trace.request_id, route.path)
            answer = await self._in_time(route.handler(visit, session))
            if "Set-Cookie" not in answer.headers:
                answer = replace(answer, headers={**answer.headers, "Set-Cookie": session_cookie(session.cookie)})
            return await _respond(answer, request)

    async def _in_time(self, handling: Awaitable[Answer]) -> Answer:
        """Wait for a handler, so long and no longer; what it holds is cleaned up by its own cancellation."""
        try:
            async with asyncio.timeout(self._handler_seconds):
                return await handling
        except TimeoutError:
            raise Overloaded("the handler took too long", retry_after=1) from None

    def _check_origin(self, request: web.Request, route: AnyRoute[Input, Input]) -> None:
        """Take forms from our own pages only: browsers say where a form comes from, and no page can have them lie."""
        if request.method == "GET" or not isinstance(route, Page | SignedIn):
            return
        origin = request.headers.get("Origin", "")
        if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin" or origin not in {
            "",
            self._service(request),
        }:
            raise InvalidToken(Fault.FOREIGN_FORM.value)

    async def _visit(
        self, route: AnyRoute[Input, Input], request: web.Request, arrival: _Arrival, trace: _Trace
    ) -> Visit[Input, Input]:
        if isinstance(route, Page | SignedIn):
            body, trace.form_token = parsing.form(route.body, request.content_type, await self._read(request))
        else:
            body = parsing.body(route.body, request.content_type, await self._read(request))
        return Visit(
            request_id=trace.request_id,
            source=arrival.source,
            service=arrival.service,
            path=dict(request.match_info),
            query=parsing.query(route.query, _given(route, request.rel_url.query.items())),
            body=body,
            idempotency_key=parsing.idempotency_key(request.headers.getall("Idempotency-Key", [])),
            if_none_match=request.headers.get("If-None-Match", ""),
            cookies=dict(request.cookies) if isinstance(route, Page) else {},
        )

    def _service(self, request: web.Request) -> str:
        return self._public_urls.of(request.host)

    def _arrival(self, request: web.Request) -> _Arrival:
        agent = _agent(request.headers.get("User-Agent", ""))
        return _Arrival(Source(ip=self._source_ip(request), user_agent=agent), self._service(request))

    def _source_ip(self, request: web.Request) -> str:
        peer = request.remote or "0.0.0.0"  # noqa: S104 - an address that matches nothing
        if not self._trusted:
            return parsing.source_ip(peer)
        return parsing.source_ip(
            peer,
            request.headers.getall("X-Forwarded-For", []),
            [str(hop.get("for", "")) for hop in request.forwarded],
            self._trusted,
        )

    async def _read(self, request: web.Request) -> bytes:
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _UnsupportedEncoding
        if not request.can_read_body:
            return b""
        try:
            if request.content.is_eof():  # it came with its head, as small ones do
                return await request.read()
            async with asyncio.timeout(self._body_seconds):
                return await request.read()
        except TimeoutError:
            raise InvalidRequest(detail="The body did not arrive in time.") from None
        except (ConnectionError, ClientPayloadError):
            raise InvalidRequest(detail="The body ended before its end.") from None

    @web.middleware
    async def _every_request(self, request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401 - as above
        """Give every request an id, every error a problem document, and every answer one log line."""
        started = perf_counter()
        trace = request[_TRACE] = _Trace(request_id=uuid4().hex)
        try:
            with measured() as trace.spans:
                response = cast("web.StreamResponse", await handler(request))
        except BrokerError as error:
            response = self._refuse(request, trace, error)
        except web.HTTPRequestEntityTooLarge:
            response = self._refuse(request, trace, _TooLarge())
        except web.HTTPMethodNotAllowed as error:
            response = self._refuse(request, trace, _MethodNotAllowed())
            response.headers["Allow"] = error.headers["Allow"]
        except web.HTTPException:
            response = self._refuse(request, trace, NotFound())
        except Exception:  # noqa: BLE001 - the last resort: nothing but a problem document may get out
            # Where it happened is logged, never what was in the variables.
            _log.exception("unexpected failure", request_id=trace.request_id, route=trace.route)
            response = self._refuse(request, trace, BrokerError())
        if "DPoP" in request.headers and not response.prepared:
            response.headers["DPoP-Nonce"] = self._doors.nonce()
        self._note(request, trace, response.status, started)
        return response

    def _refuse(self, request: web.Request, trace: _Trace, error: BrokerError) -> web.Response:
        trace.code, trace.cause = error.code, error.cause
        if isinstance(error, InvalidToken):
            self._metrics.refused(error.cause)
            if trace.is_page:
                self._doors.note_refusal(error)
        status = _EDGE_STATUS.get(type(error), status_of(type(error)))
        told = problem(error, trace.request_id, status)
        if self._error_page and (trace.is_page or request.path.startswith(CONSOLE)):
            return self._page(self._error_page(told), request)
        response = web.Response(
            status=status,
            body=orjson.dumps(told.model_dump(exclude_none=True)),
            content_type=CONTENT_TYPE,
        )
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(error.retry_after)
        if isinstance(error, InvalidToken | StepUpRequired):
            metadata = f"{self._service(request)}/.well-known/oauth-protected-resource"
            for challenge in _challenges(error, metadata):
                response.headers.add("WWW-Authenticate", challenge)
        return response

    def _page(self, answer: Answer, request: web.Request) -> web.Response:
        """Show an error to people; who only has to sign in is led there, and back again."""
        if answer.status == HTTPStatus.UNAUTHORIZED and request.method == "GET" and request.path != CALLBACK:
            back = quote(request.path_qs if request.path.startswith(CONSOLE) else CONSOLE, safe="")
            headers = {"Location": f"{CONSOLE}/sign-in?next={back}", "Cache-Control": "no-store"}
            return web.Response(status=HTTPStatus.SEE_OTHER, headers=headers)
        content = cast("bytes", answer.content)
        response = web.Response(status=answer.status, body=content, headers=dict(answer.headers))
        response.headers["Content-Type"] = answer.content_type
        return response

    def _note(self, request: web.Request, trace: _Trace, status: int, started: float) -> None:
        answered = AnsweredRequest(
            request_id=trace.request_id,
            method=request.method if trace.route != "-" else "-",
            route=trace.route,
            status=status,
            code=trace.code,
            began=started,
            ended=perf_counter(),
            stages=trace.spans,
            parent=request.headers.get("traceparent", "") if trace.caller else "",
        )
        for told in self._told:
            told.request(answered)
        _log.info(
            "request",
            request_id=trace.request_id,
            method=answered.method,
            route=trace.route,
            status=status,
            code=trace.code or None,
            cause=trace.cause or None,
            caller=str(trace.caller) if trace.caller else None,
            token_id=trace.caller.token_id if trace.caller else None,
            milliseconds=round((answered.ended - started) * 1000, 2),
            **_stages(trace.spans),
        )


def _stages(spans: Sequence[Span]) -> dict[str, float]:
    """Answer the milliseconds of each stage, as the log line has them."""
    spent: dict[str, float] = {}
    for span in spans:
        name = f"{span.stage}_milliseconds"
        spent[name] = round(spent.get(name, 0.0) + (span.ended - span.began) * 1000, 2)
    return spent


def session_cookie(value: Secret | None) -> str:
    """Write the header that gives the browser its session, or takes it away."""
    attributes = "Path=/; Secure; HttpOnly; SameSite=Lax"
    return f"{SESSION}={value.reveal()}; {attributes}" if value else f"{SESSION}=; Max-Age=0; {attributes}"


def login_cookie(value: Secret) -> str:
    """Write the header by which the browser keeps what it began."""
    return f"{LOGIN}={value.reveal()}; Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax"


def _given(route: AnyRoute[Input, Input], pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Leave out what was left empty in a form of a page."""
    return [pair for pair in pairs if pair[1]] if isinstance(route, Page | SignedIn) else pairs


def _challenges(error: BrokerError, metadata: str) -> Iterator[str]:
    """Answer the challenges of RFC 6750, RFC 9449, RFC 9470 and RFC 9728."""
    kind = "insufficient_user_authentication" if isinstance(error, StepUpRequired) else "invalid_token"
    proof = "use_dpop_nonce" if isinstance(error, NonceNeeded) else kind
    asked = "".join(_asked(error)) if isinstance(error, StepUpRequired) else ""
    yield f'Bearer error="{kind}"{asked}, resource_metadata="{metadata}"'
    yield f'DPoP error="{proof}"{asked}, algs="{_ALGORITHMS}", resource_metadata="{metadata}"'


def _asked(error: StepUpRequired) -> Iterator[str]:
    """Answer the parameters of RFC 9470, section 3: which login would do. Both stand in quotes, as in its examples."""
    yield f', error_description="{error.sentence}"'
    for step in error.steps:
        if step.acr_values:
            yield f', acr_values="{" ".join(map(_printable, step.acr_values))}"'
        if step.max_age is not None:
            yield f', max_age="{step.max_age}"'


def _presented(request: web.Request, service: str) -> Presented:
    return Presented(
        authorization=tuple(request.headers.getall("Authorization", [])),
        dpop=tuple(request.headers.getall("DPoP", [])),
        method=request.method,
        url=service + request.rel_url.raw_path,
        certificate_sha256=_client_certificate(request),
    )


def _client_certificate(request: web.Request) -> bytes:
    """Answer the SHA-256 of the certificate that our own handshake verified; no header is believed about it."""
    secured = request.transport.get_extra_info("ssl_object") if request.transport else None
    certificate = secured.getpeercert(binary_form=True) if secured else None
    return hashlib.sha256(certificate).digest() if certificate else b""


@lru_cache(maxsize=1024)
def _agent(text: str) -> str:
    return _printable(text)[:200]


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isascii() and c.isprintable() and c not in '"\\')


async def _expect(request: web.Request) -> None:
    """Encourage whoever expects it; any other expectation may be ignored (RFC 9110, section 10.1.1)."""
    if request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # nothing of the answer itself was sent


async def _respond(answer: Answer, request: web.Request) -> web.StreamResponse:
    content = answer.content
    if isinstance(content, AsyncGenerator):
        async with aclosing(content):
            return await _stream(answer, content, request)
    if isinstance(content, BaseModel):
        content = content.model_dump(mode="json", by_alias=True)
    if content is not None and not isinstance(content, bytes):
        content = orjson.dumps(content)
    response = web.Response(status=answer.status, body=content, headers=dict(answer.headers))
    if content is not None:
        response.headers["Content-Type"] = answer.content_type
    return response


async def _stream(answer: Answer, parts: AsyncIterator[bytes], request: web.Request) -> web.StreamResponse:
    """Send part by part; what cannot be sent whole ends without its end, by a cut connection."""
    response = web.StreamResponse(status=answer.status, headers=dict(answer.headers))
    response.headers["Content-Type"] = answer.content_type
    await response.prepare(request)
    try:
        async for part in parts:
            async with asyncio.timeout(TAKE_SECONDS):
                await response.write(part)
        await response.write_eof()
    except Exception as problem:  # noqa: BLE001 - the head is out: no problem document can follow it
        trace = request[_TRACE]
        trace.code, trace.cause = "cut", type(problem).__name__
        if request.transport is not None:
            request.transport.abort()
    return response


async def _dress(request: web.Request, response: web.StreamResponse) -> None:
    """Add what every answer carries, and take away the banner."""
    response.headers.popall("Server", None)
    response.headers["X-Content-Type-Options"] = "nosniff"
    if trace := request.get(_TRACE):  # what the server itself refuses has none
        response.headers["X-Request-Id"] = trace.request_id
    if request.path.startswith("/v1"):
        response.headers["Cache-Control"] = "no-store"
