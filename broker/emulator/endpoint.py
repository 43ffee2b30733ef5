"""The HTTP side: AWS calls at `/`, and the emulator's own routes beneath `/_emulator`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Final, Protocol

from aiohttp import web

from broker.emulator.callers import Caller, Callers, Clock
from broker.emulator.calls import Call, new_call_list
from broker.emulator.errors import AwsError
from broker.emulator.faults import Faults, apply
from broker.emulator.fixture import FixtureError, parse_faults
from broker.emulator.shapes import Answer, Parameters, checked_input
from broker.emulator.signatures import SignedCall
from broker.emulator.wires import Wire, wire_of

_LARGEST_BODY: Final = 64 * 1024
_LONGEST_NAME: Final = 255  # of what is remembered of a call


class Service(Protocol):
    """Something that performs operations."""

    async def perform(self, operation: str, caller: Caller, parameters: Parameters) -> Answer:
        """Perform an operation; raises AwsError."""


class Endpoint:
    """Takes calls, lets in whose signature holds, applies faults, and remembers what was called."""

    def __init__(self, services: Mapping[str, Service], callers: Callers, faults: Faults, clock: Clock) -> None:
        self._services = services
        self._callers = callers
        self._faults = faults
        self._clock = clock
        self.calls = new_call_list()

    def application(self) -> web.Application:
        """Answer the routes as an application."""
        application = web.Application(client_max_size=_LARGEST_BODY)
        application.router.add_post("/", self._call)
        application.router.add_get("/_emulator/calls", self._show_calls)
        application.router.add_post("/_emulator/faults", self._add_faults)
        application.router.add_delete("/_emulator/faults", self._clear_faults)
        return application

    async def _call(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        wire = wire_of(request.headers)
        request_id = str(uuid.uuid4())
        name = wire.name(request.headers, body)
        call = Call(operation=name[:_LONGEST_NAME], instance=None, protocol=None, at=self._clock())
        self.calls.append(call)
        try:
            return await self._perform(request, body, wire, call, request_id)
        except AwsError as error:
            call.answered = error.type
            return wire.error(error, request_id)

    async def _perform(
        self, request: web.Request, body: bytes, wire: Wire, call: Call, request_id: str
    ) -> web.StreamResponse:
        operation = wire.operation(call.operation)
        members = wire.members(body)
        call.instance, call.protocol = _text(members.get("instanceName")), _text(members.get("protocol"))
        caller = self._callers.verify(_signed_call(request, body), wire.service)
        call.region, call.caller, call.source_identity = caller.region, caller.arn, caller.source_identity
        if kind := self._faults.next_for(operation.name, call.instance):
            call.answered = kind
            if (response := await apply(kind, request)) is not None:
                return response
        parameters = checked_input(operation, members)
        answer = await self._services[wire.service].perform(operation.name, caller, parameters)
        response = wire.answer(operation, answer, request_id)
        call.answered = "ok"
        return response

    async def _show_calls(self, request: web.Request) -> web.Response:
        del request
        return web.json_response([call.described() for call in self.calls])

    async def _add_faults(self, request: web.Request) -> web.Response:
        try:
            faults = parse_faults(await request.json())
        except ValueError as error:
            raise web.HTTPBadRequest(text="The body is not JSON.") from error
        except FixtureError as error:
            return web.json_response({"problems": error.problems}, status=400)
        self._faults.add(faults)
        return web.json_response({"added": len(faults)}, status=201)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        del request
        self._faults.clear()
        return web.Response(status=204)


def _signed_call(request: web.Request, body: bytes) -> SignedCall:
    return SignedCall(
        method=request.method,
        path=request.rel_url.raw_path,
        query=request.rel_url.raw_query_string,
        headers={name.lower(): ",".join(request.headers.getall(name)) for name in request.headers},
        body=body,
    )


def _text(value: object) -> str | None:
    return value[:_LONGEST_NAME] if isinstance(value, str) else None
