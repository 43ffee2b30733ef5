"""What the service gives up at its start: nobody looks into it, and nothing of it goes to a disk."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CONFINED = """
import sys, time
from broker.cli.confinement import confine
print(list(confine()), flush=True)
secret = "S3cret-Admin-Pw!"
time.sleep(30)
"""
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="prctl and mlockall are Linux's")


def confined(*, locking: bool) -> subprocess.Popen[str]:
    limit = resource.RLIM_INFINITY if locking else 1 << 16

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    return subprocess.Popen([sys.executable, "-c", CONFINED], stdout=subprocess.PIPE, text=True, preexec_fn=prepare)  # noqa: PLW1509 - limits of the child alone


@LINUX
@pytest.mark.skipif(os.geteuid() != 0, reason="only root raises these limits")
@pytest.mark.parametrize("locking", [True, False])
def test_memory_is_locked_where_the_limit_allows_it_and_no_core_is_left(*, locking: bool, tmp_path: Path) -> None:
    if locking and resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] != resource.RLIM_INFINITY:
        pytest.skip("this machine bounds the memory that may be locked")
    with confined(locking=locking) as process:
        assert process.stdout
        said = process.stdout.readline()
        status = Path(f"/proc/{process.pid}/status").read_text()
        locked = int(status.partition("VmLck:")[2].split()[0])
        assert (locked > 1000) == locking
        assert ("RLIMIT_MEMLOCK" in said) != locking
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert limits.partition("Max core file size")[2].split()[:2] == ["0", "0"]
        process.send_signal(signal.SIGABRT)
        assert process.wait(10) == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []


OPEN_THEN_CONFINED = """
import ctypes, os, sys
from broker.cli.confinement import confine
os.setgid(65534)
os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # a change of the user has closed it: open it, as an ordinary start is
print("open", flush=True)
sys.stdin.readline()
list(confine())
print("confined", flush=True)
sys.stdin.readline()
"""


def looked_into(process: int) -> list[bool]:
    """Tell what another program of the same user could read of a process."""

    def somebody() -> None:
        os.setgid(65534)
        os.setuid(65534)

    commands = [["head", "-c", "1", f"/proc/{process}/{name}"] for name in ("environ", "maps", "auxv")]
    return [
        subprocess.run(command, preexec_fn=somebody, capture_output=True, check=False).returncode == 0
        for command in commands
    ]


@LINUX
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_other_programs_of_the_same_user_cannot_look_into_it() -> None:
    words = [sys.executable, "-c", OPEN_THEN_CONFINED]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "open\n"
        assert looked_into(process.pid) == [True, True, True]
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "confined\n"
        assert looked_into(process.pid) == [False, False, False]
        process.kill()


def test_no_proxy_of_the_environment_is_asked_for_the_keys_of_the_instance() -> None:
    code = (
        "from broker.cli.confinement import confine; list(confine()); "
        "from botocore.utils import get_environ_proxies; print(get_environ_proxies('http://169.254.169.254/'))"
    )
    environment = {**os.environ, "http_proxy": "http://192.0.2.1:3128", "ALL_PROXY": "http://192.0.2.1:3128"}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "{}\n"


def test_the_development_mode_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text(
        'audit = {origin = "x.example/audit"}\n'
        'issuers = [{name = "corp", issuer = "https://id.example.com", audience = "b"}]\n'
        'accounts = [{name = "main", regions = ["eu-west-1"]}]\n'
    )
    words = [sys.executable, "-X", "dev", "-W", "ignore", "-m", "broker", "serve", "--config", str(config)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "development mode" in done.stderr
