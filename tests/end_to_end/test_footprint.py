"""What the service touches of its machine, as the kernel sees it: its own folder, its own addresses, nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.deploy.confinement import allowed_calls, directives, profile
from tests.end_to_end.places import LINUX, WINDOWS, Place, Running, a_place
from tests.real.strace import Call, calls

TEAM_KEY = ("team-key", "--account", "main", "--region", "eu-west-1", "--private-key", "team-key.pem")
NAME_SERVICE = "/var/run/nscd/socket"
"""Where the C library asks first for names of users and hosts."""
RESIDUE = 20
"""Of so many credentials something may stay in memory that was given back and not yet used again."""
WRITING = re.compile(r"\bO_(?:WRONLY|RDWR|CREAT|TRUNC|APPEND)\b")
OPENING = {"open", "openat", "openat2", "creat"}
CHANGING = {
    *("mkdir", "mkdirat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
    *("unlink", "unlinkat", "truncate", "chmod", "fchmodat", "chown", "lchown", "fchownat", "mknod", "mknodat"),
}
REACHING = {"connect", "sendto", "sendmsg", "sendmmsg"}
MAY_FAIL = {"fchown", "setpriority"}
"""SQLite's, and only as root; and the courtesy of the child that reads policies."""
REFUSED = ("-e", f"inject={','.join(sorted(MAY_FAIL))}:error=EPERM")
STRACE = ("strace", "-D", "-f", "-qq", "-s", "300", *REFUSED, "-o")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    instances = [
        {**LINUX, "name": "web-1"},
        {**WINDOWS, "name": "win-1", "key_pair": "team-key"},
        {**WINDOWS, "name": "win-2"},
    ]
    async with a_place(tmp_path, instances) as place:
        place.environment["PYTHONDONTWRITEBYTECODE"] = "1"  # as the unit and the image say
        yield place


async def a_day(place: Place, service: Running) -> None:
    """Do what a service does: open, refuse, show, take in policies and keys."""
    assert (await place.broker("keys", "add", *TEAM_KEY)).code == 0
    for name in ("web-1", "win-1", "win-2"):
        assert (await service.issue(name))[0] == 201
    assert (await service.issue("no-such"))[0] == 403
    assert (await service.ask("/v1/instances", token="none"))[0] == 401
    for path in ("/v1/instances", "/v1/blueprints", "/v1/audit/events", "/v1/leases", "/readyz", "/metrics"):
        assert (await service.ask(path))[0] == 200
    service.process.send_signal(signal.SIGHUP)
    (place.folder / "policies" / "all.cedar").write_text("no policy")  # which is told, and not taken in
    await asyncio.sleep(2)
    assert (await service.issue("web-1"))[0] == 201


async def traced(place: Place) -> list[Call]:
    trace = place.folder / "trace"
    async with place.serving(*STRACE, str(trace)) as service:
        await a_day(place, service)
        assert await service.stop() == 0
    await asyncio.sleep(0.5)  # strace writes its last lines
    return calls((place.folder / "trace").read_text().splitlines())


def written(seen: Iterable[Call]) -> set[str]:
    """Answer what was written to, made, removed or renamed, where that did not fail."""
    changes = (
        call
        for call in seen
        if call.name in CHANGING or (call.name in OPENING and WRITING.search(call.arguments)) or call.name == "creat"
    )
    return {
        path
        for call in changes
        if not call.result.startswith("-1")
        for path in re.findall(r'"([^"]*)"', call.arguments)
    }


def reached(seen: Iterable[Call]) -> set[str]:
    """Answer where connections and packets went to."""
    found = set()
    for call in seen:
        if call.name in REACHING and "sa_family" in call.arguments:
            port = re.search(r"sin6?_port=htons\((\d+)\)", call.arguments)
            where = re.search(r'(?:inet_addr\(|inet_pton\(AF_INET6, |sun_path=)@?"([^"]+)"', call.arguments)
            found.add(f"{where[1] if where else call.arguments}{f':{port[1]}' if port else ''}")
    return found


@pytest.mark.real("strace", "systemd-analyze")
async def test_it_writes_its_own_state_reaches_aws_alone_and_needs_no_call_that_the_unit_forbids(place: Place) -> None:
    seen = await traced(place)
    state = str(place.folder / "state")
    assert {path for path in written(seen) if not path.startswith((state + "/", "state/"))} <= {"/dev/null"}
    assert any(path.startswith(state) for path in written(seen))
    assert reached(seen) - {NAME_SERVICE} == {place.emulator.url.removeprefix("http://")}
    started = {re.sub(r'"([^"]*)".*', r"\1", call.arguments) for call in seen if call.name == "execve"}
    assert started == {sys.executable}  # itself, and the child that reads policies
    named = {call.name for call in seen}
    assert {"mmap", "fdatasync", "bind", "execve", "prlimit64", "setpriority"} <= named
    assert named - allowed_calls() <= MAY_FAIL
    assert named - profile() <= MAY_FAIL | {"socket", "clone", "clone3"}  # these by their arguments
    families = {call.arguments.partition(",")[0] for call in seen if call.name == "socket"}
    assert families <= set(directives()["RestrictAddressFamilies"][0].split())
    # MemoryDenyWriteExecute=: no memory is ever writable and executable, and none becomes executable later.
    assert [call for call in seen if re.search(r"PROT_WRITE\|PROT_EXEC", call.arguments)] == []
    assert [call for call in seen if call.name == "mprotect" and "PROT_EXEC" in call.arguments] == []


def pages(pid: int) -> Iterable[bytes]:
    """Answer all the memory of a process that it may write to, as only root can read it."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if rights.startswith("rw"):
                begin, end = (int(number, 16) for number in span.split("-"))
                memory.seek(begin)
                with suppress(OSError):  # not there, such as a guard page
                    yield memory.read(end - begin)


def left_over(pid: int, secrets: Sequence[bytes]) -> int:
    """Count the secrets of which something is still in the memory of a process."""
    found = [page for page in pages(pid) if b"PRIVATE KEY" in page]
    return sum(any(secret in page for page in found) for secret in secrets)


async def key_of(service: Running) -> bytes:
    """Answer a part in the middle of a new private key."""
    status, document = await service.issue("web-1")
    assert status == 201
    return str(document["ssh"]["private_key"]).splitlines()[10].encode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root looks into the memory of others")
async def test_of_many_credentials_few_stay_in_memory_and_not_more_with_time(place: Place) -> None:
    place.environment |= {
        "BROKER__LIMITS__PER_CALLER_PER_MINUTE": "100000",
        "BROKER__LIMITS__ISSUES_PER_CALLER_PER_MINUTE": "0",
    }
    left = []
    async with place.serving() as service:
        secrets: list[bytes] = []
        for _ in range(3):
            secrets += [await key_of(service) for _ in range(30)]
            left.append(left_over(service.process.pid, secrets))
        held = await key_of(service)
        assert left_over(service.process.pid, [held]) == 1  # the search finds what is there
    assert max(left) <= RESIDUE


async def test_the_service_that_runs_leaves_no_core_and_shows_nothing_in_its_command(place: Place) -> None:
    async with place.serving() as service:
        process = Path(f"/proc/{service.process.pid}")
        limits = (process / "limits").read_text()
        assert limits.partition("Max core file size")[2].split()[:2] == ["0", "0"]
        words = (process / "cmdline").read_text().rstrip("\0").split("\0")
        assert words == [sys.executable, "-m", "broker", "serve"]
