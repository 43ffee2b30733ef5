"""What every test shares: the rule for real parts."""

import os
import shutil
import signal
from collections.abc import Callable
from importlib.util import find_spec

import pytest

from tests.real import memory
from tests.real.postgresql import is_there, postgresql, postgresql_server

__all__ = ["postgresql", "postgresql_server"]  # fixtures for everybody

REAL_PARTS: dict[str, Callable[[], bool]] = {
    "sshd": lambda: shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin") is not None,
    "ssh": lambda: shutil.which("ssh") is not None,
    "ssh-keygen": lambda: shutil.which("ssh-keygen") is not None,
    "openssl": lambda: shutil.which("openssl") is not None,
    "strace": lambda: shutil.which("strace") is not None,
    "unshare": lambda: all(map(shutil.which, ("unshare", "nsenter"))) and not os.system("unshare --mount true"),  # noqa: S605 -- it must also be allowed
    "node": lambda: shutil.which("node") is not None and shutil.which("npm") is not None,
    "aws": lambda: find_spec("awscli") is not None,
    "freerdp": lambda: all(map(shutil.which, ("xfreerdp", "freerdp-shadow-cli", "Xvfb", "winpr-hash"))),
    "xclip": lambda: all(map(shutil.which, ("xclip", "Xvfb"))),
    "postgresql": is_there,
    "zsh": lambda: shutil.which("zsh") is not None,
    "chromium": lambda: shutil.which("chromium") is not None and shutil.which("npm") is not None,
    "fish": lambda: shutil.which("fish") is not None,
    "systemd-analyze": lambda: shutil.which("systemd-analyze") is not None,
    "buildah": lambda: shutil.which("buildah") is not None,
    "podman": lambda: shutil.which("podman") is not None,
    "mmdebstrap": lambda: shutil.which("mmdebstrap") is not None,
    "runc": lambda: shutil.which("runc") is not None,
    "memory cgroup": memory.is_there,
    "promtool": lambda: shutil.which("promtool") is not None,
}


def pytest_configure() -> None:
    """Take signals that a job in the background, or under nohup, ignores: every program that it starts would too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose real part is missing; fail it where every part is required."""
    for marker in item.iter_markers("real"):
        for part in marker.args:
            if REAL_PARTS[part]():
                continue
            message = f"the real part {part!r} is not installed"
            if os.environ.get("BROKER_TEST_REQUIRE") == "all":
                pytest.fail(message)
            pytest.skip(message)
