"""Faults on demand: what goes wrong, how often, and with which calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import uuid4

from aiohttp import web

from broker.emulator.errors import AwsError
from broker.emulator.fixture import FaultFixture
from broker.emulator.fixture_values import duration


@dataclass(slots=True)
class _Entry:
    fault: FaultFixture
    applied: int = 0

    def matches(self, operation: str, instance: str | None) -> bool:
        is_left = self.fault.times == 0 or self.applied < self.fault.times
        return is_left and self.fault.operation in ("", operation) and self.fault.instance in ("", instance)


class Faults:
    """The faults in force, in order: the first that matches a call is applied, `times` times (0: for ever)."""

    def __init__(self, faults: Iterable[FaultFixture] = ()) -> None:
        self._entries = [_Entry(fault) for fault in faults]

    def add(self, faults: Iterable[FaultFixture]) -> None:
        """Put more faults behind those in force."""
        self._entries.extend(_Entry(fault) for fault in faults)

    def clear(self) -> None:
        """Let everything work again."""
        self._entries.clear()

    def next_for(self, operation: str, instance: str | None) -> str | None:
        """Answer the kind of fault that this call meets, and count it; None when all is well."""
        entry = next((each for each in self._entries if each.matches(operation, instance)), None)
        if entry is None:
            return None
        entry.applied += 1
        return entry.fault.kind


async def apply(kind: str, request: web.Request) -> web.Response | None:
    """Do what a kind of fault says; None when the call goes on (a delay).

    Raises:
        AwsError: For `throttle` and `error:<Type>`.
    """
    name, _, argument = kind.partition(":")
    match name:
        case "throttle":
            raise AwsError("ThrottlingException", "Rate exceeded")
        case "error":
            raise AwsError(argument, "This fault was asked for.")
        case "delay":
            await asyncio.sleep(duration(argument).total_seconds())
            return None
        case "status":
            return web.Response(text="This fault was asked for.", status=int(argument))
        case "drop":
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        case _:
            return web.Response(
                body=b'{"accessDetails": {"instanceName"',
                headers={"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": str(uuid4())},
            )
