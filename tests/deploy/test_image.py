"""The image itself: built without a registry, and run as a production would run it. Minutes, so in the long part."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.demo.stage import make_tls

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/lightsail-credential-broker"
HARDENED = (
    *("--network", "host", "--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"),
    *("--security-opt", f"seccomp={ROOT / 'deploy/container/seccomp.json'}"),
    *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"),
)
pytestmark = [pytest.mark.long, pytest.mark.real("buildah", "podman", "mmdebstrap", "runc"), pytest.mark.timeout(900)]


class Engine:
    """podman on a storage of its own."""

    def __init__(self, work: Path) -> None:
        self.environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(work / "storage.conf")}

    def __call__(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one command of it."""
        engine = ("podman", "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc")
        return subprocess.run(
            [*engine, *map(str, words)], env=self.environment, capture_output=True, text=True, check=check, timeout=120
        )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    kept = os.environ.get("BROKER_TEST_IMAGE_FOLDER")  # what was downloaded once may be used again
    work = Path(kept) if kept else tmp_path_factory.mktemp("image")
    built = subprocess.run(
        [ROOT / "deploy/container/build-offline", work],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert built.returncode == 0, built.stderr[-2000:]
    return Engine(work)


def lay_out(folder: Path) -> tuple[Path, Path, int]:
    """Write settings, certificate and policies as they are mounted; answer both folders and the port."""
    etc, state = folder / "etc", folder / "state"
    (etc / "policies").mkdir(parents=True)
    state.mkdir()
    make_tls(etc)
    (etc / "policies" / "none.cedar").write_text('@id("none") forbid(principal, action, resource);\n')
    (etc / "jwks.json").write_text('{"keys": []}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    (etc / "broker.toml").write_text(f"""
[server]
listen = "127.0.0.1:{port}"
tls_certificate = "tls.crt"
tls_private_key = "tls.key"
[[issuers]]
name = "corp"
issuer = "https://id.example.com"
audience = "b"
jwks_file = "jwks.json"
[[accounts]]
name = "main"
regions = ["eu-west-1"]
endpoint_url = "http://127.0.0.1:9"
[keys]
directory = "/var/lib/broker/keys"
master_key = "file:/var/lib/broker/master.key"
[audit]
database = "sqlite:////var/lib/broker/audit.db"
signing_key = "file:/var/lib/broker/audit.key"
origin = "image.test/audit"
""")
    for path in (etc, state, *etc.rglob("*")):
        os.chown(path, 10001, 10001)
    state.chmod(0o700)
    (etc / "tls.key").chmod(0o600)
    return etc, state, port


def inside(engine: Engine, container: str, program: str) -> str:
    """Run a Python program within the container, and answer what it prints."""
    return engine("exec", container, "python3", "-I", "-c", program).stdout.strip()


def test_it_serves_without_any_right_and_is_healthy(engine: Engine, tmp_path: Path) -> None:
    etc, state, _ = lay_out(tmp_path)
    mounts = ("--volume", f"{etc}:/etc/broker:ro", "--volume", f"{state}:/var/lib/broker")
    aws = ("--env", "AWS_ACCESS_KEY_ID=AKIDX", "--env", "AWS_SECRET_ACCESS_KEY=x")
    made = engine("run", "--rm", *HARDENED, *mounts, IMAGE, "init", "--config", "/etc/broker/broker.toml", check=False)
    assert made.returncode == 0, made.stderr
    container = engine("run", "--detach", *HARDENED, *mounts, *aws, IMAGE).stdout.strip()
    try:
        for _ in range(60):
            if "serving on" in engine("logs", container).stderr:
                break
            time.sleep(0.5)
        healthy = engine("exec", container, "python3", "-I", "/opt/broker/healthcheck.py", check=False)
        assert healthy.returncode == 0, healthy.stderr + engine("logs", container).stderr
        status = status_of(inside(engine, container, "print(open('/proc/1/status').read())"))
        assert status["Uid"].split() == ["10001"] * 4
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        written = "open('/opt/broker/x', 'w')"
        tried = engine("exec", container, "python3", "-I", "-c", written, check=False)
        assert "Read-only file system" in tried.stderr
        stopped = engine("stop", "--time", "40", container)
        assert stopped.returncode == 0
        assert json.loads(engine("inspect", container).stdout)[0]["State"]["ExitCode"] == 0
    finally:
        engine("rm", "--force", container, check=False)
    assert {path.name for path in state.iterdir()} >= {"audit.db", "audit.key", "keys"}


def status_of(text: str) -> Mapping[str, str]:
    """Read what the kernel says of a process."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


FORBIDDEN = """
import ctypes, errno, socket
libc = ctypes.CDLL(None, use_errno=True)
def refused(name, *arguments):
    ctypes.set_errno(0)
    return getattr(libc, name)(*arguments) == -1 and errno.errorcode[ctypes.get_errno()]
def netlink():
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    except PermissionError:
        return "EPERM"
nothing = ctypes.c_void_p()
print(refused("ptrace", 0, 0, nothing, nothing), refused("process_vm_readv", 1, nothing, 0, nothing, 0, 0),
      refused("unshare", 0x10000000), refused("setns", -1, 0), refused("mount", b"x", b"/", b"x", 0, nothing),
      netlink())
"""


def test_calls_that_it_does_not_need_are_refused(engine: Engine) -> None:
    python = ("--entrypoint", "/opt/broker/bin/python", IMAGE, "-I", "-c", FORBIDDEN)
    assert engine("run", "--rm", *HARDENED, *python).stdout.split() == ["EPERM"] * 6
    lax = [option for option in HARDENED if not option.startswith("seccomp=")]
    lax.insert(lax.index("--ulimit"), "seccomp=unconfined")
    assert engine("run", "--rm", *lax, *python).stdout.split() != ["EPERM"] * 6


def test_neither_pip_nor_a_compiler_is_left_in_it(engine: Engine) -> None:
    look = "import shutil; print([name for name in ('gcc', 'cc', 'pip', 'pip3') if shutil.which(name)])"
    found = engine("run", "--rm", *HARDENED, "--entrypoint", "/opt/broker/bin/python", IMAGE, "-I", "-c", look).stdout
    assert found.strip() == "[]"
