"""What the systemd unit and the profile for containers let the service do."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/broker.service"
PROFILE = ROOT / "deploy/container/seccomp.json"
NEVER = {
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd", "perf_event_open"),
    *("mount", "umount2", "pivot_root", "chroot", "setns", "unshare", "open_by_handle_at", "name_to_handle_at"),
    *("bpf", "userfaultfd", "init_module", "finit_module", "kexec_load", "reboot", "swapon", "iopl", "ioperm"),
    *("keyctl", "add_key", "request_key", "io_uring_setup", "io_uring_enter", "io_uring_register"),
}


def profile() -> set[str]:
    """Answer the calls that the profile for containers allows whatever their arguments are."""
    rules = json.loads(PROFILE.read_text())["syscalls"]
    return {
        name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule for name in rule["names"]
    }


def directives() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def allowed_calls() -> set[str]:
    """Expand SystemCallFilter= with this systemd's own lists."""
    blocks = re.split(r"^(?=@)", analyze("syscall-filter").stdout, flags=re.MULTILINE)
    groups = {name: set(members) for name, *members in (re.sub(r"#.*", "", block).split() for block in blocks if block)}

    def expand(name: str) -> set[str]:
        return set().union(*map(expand, groups[name])) if name.startswith("@") else {name}

    allowed: set[str] = set()
    for value in directives()["SystemCallFilter"]:
        named = set().union(*map(expand, value.removeprefix("~").split()))
        allowed = allowed - named if value.startswith("~") else allowed | named
    return allowed
