"""Reads in a trace when each event came to be on disk, and when each secret left. A place in the trace is its line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tests.real.strace import Call, calls

_WAL = re.compile(r"\d+<[^>]*/audit\.db-wal>")
_LEAF = re.compile(r'\{\\"actor\\".*?\\"time\\":\\"[^"\\]*\\"[^{}]*\}', re.DOTALL)
_REQUEST_ID = re.compile(r'\\"request_id\\":\\"(\w+)\\"')
_ANSWER = re.compile(r"X-Request-Id: (\w+)\\r\\n")
_SECRET = re.compile(r'PRIVATE KEY|\\"password\\":')


@dataclass(frozen=True, slots=True)
class Order:
    """By request id: where the sync that covers its `credential.issued` ended, and where its secret began to leave."""

    durable: dict[str, int]
    sends: dict[str, int]


def order_of(trace: Iterable[str]) -> Order:
    """Read a trace (`strace -f -y -s 9000`) of a broker that answers without TLS."""
    seen = calls(trace)
    return Order(_durable(seen), _sends(seen))


def _durable(seen: Iterable[Call]) -> dict[str, int]:
    written: dict[int, set[str]] = {}
    durable: dict[str, int] = {}
    for call in seen:
        if not _WAL.match(call.arguments):
            continue
        if call.name == "pwrite64":
            written.setdefault(call.thread, set()).update(_issued(call.arguments))
        elif call.name == "fdatasync" and call.result.strip() == "0":  # "0 (INJECTED)" did not happen
            for request_id in written.pop(call.thread, set()):
                durable.setdefault(request_id, call.ended)
    return durable


def _issued(written: str) -> set[str]:
    """Answer the requests of which the issue lies among the bytes that were written."""
    leaves = (leaf[0] for leaf in _LEAF.finditer(written) if r"\"event\":\"credential.issued\"" in leaf[0])
    return {found[1] for leaf in leaves if (found := _REQUEST_ID.search(leaf))}


def _sends(seen: Iterable[Call]) -> dict[str, int]:
    return {
        found[1]: call.began
        for call in seen
        if call.name in {"sendto", "sendmsg", "writev", "write"}
        and _SECRET.search(call.arguments)
        and (found := _ANSWER.search(call.arguments))
    }


def wrongs_of_order(order: Order) -> list[str]:
    """Answer every secret that left before its event was on disk, or without one."""
    return [
        f"{request_id}: sent {'before its event was synced' if request_id in order.durable else 'without its event'}"
        for request_id, sent in order.sends.items()
        if order.durable.get(request_id, sent + 1) > sent
    ]
