"""strace on a process that runs: traces it, or makes chosen system calls fail. Mark its users real("strace").

A rule `inject` counts the calls of each thread by itself.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

LETS_GO = 2.0


@asynccontextmanager
async def attached(pid: int, trace: Path, *options: str) -> AsyncIterator[None]:
    """Trace a process and its threads into a file until the context ends, or the process does."""
    strace = await asyncio.to_thread(_start, ["-f", "-o", str(trace), *options, "-p", str(pid)])
    try:
        await asyncio.to_thread(_wait_until_attached, strace)
        yield
    finally:
        await asyncio.to_thread(_let_go, strace)


def _start(options: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(["strace", *options], stderr=subprocess.PIPE, text=True)


def _let_go(strace: subprocess.Popen[str]) -> None:
    """End strace, which lets go of what it traces; now and then it waits for ever for a thread that was killed."""
    strace.terminate()
    try:
        strace.communicate(timeout=LETS_GO)
    except subprocess.TimeoutExpired:
        strace.kill()
        strace.communicate()


def _wait_until_attached(strace: subprocess.Popen[str]) -> None:
    assert strace.stderr is not None
    said = ""
    while "attached" not in said:
        line = strace.stderr.readline()
        if not line:
            raise AssertionError(f"strace does not attach: {said}")
        said += line


class Call(NamedTuple):
    """One system call of a trace: where in the trace it began and ended, its thread, name, arguments and result.

    The result is empty for a call that never returned.
    """

    began: int
    ended: int
    thread: int
    name: str
    arguments: str
    result: str


_LINE = re.compile(r"(?P<thread>\d+) +(?:\d+\.\d+ +)?(?P<rest>.*)", re.DOTALL)
_WHOLE = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>.*)", re.DOTALL)
_BEGUN = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)<unfinished \.\.\.>", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(?P<arguments>.*)\) += (?P<result>.*)", re.DOTALL)


def calls(lines: Iterable[str]) -> list[Call]:
    """Read a trace; calls in the order in which they began."""
    return sorted(_calls(lines))


def _calls(lines: Iterable[str]) -> Iterator[Call]:
    begun: dict[int, Call] = {}
    for number, line in enumerate(lines):
        if not (matched := _LINE.fullmatch(line.rstrip("\n"))):
            continue
        thread, rest = int(matched["thread"]), matched["rest"]
        if found := _RESUMED.match(rest):
            if call := begun.pop(thread, None):
                yield call._replace(ended=number, arguments=call.arguments + found["arguments"], result=found["result"])
        elif found := _BEGUN.match(rest):
            begun[thread] = Call(number, number, thread, found["name"], found["arguments"], "")
        elif found := _WHOLE.match(rest):
            yield Call(number, number, thread, found["name"], found["arguments"], found["result"])
    yield from begun.values()
