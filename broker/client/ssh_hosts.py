"""The block for ~/.ssh/config, and the files that it includes: one for each instance that is open.

ssh runs the command of a `Match … exec` line when it comes to it, and only then reads the files that an `Include`
line below names. So the command gets the lease and writes the instance's file, and ssh finds it. Whatever the command
did not open stays closed: the block ends in a host name that there is not (RFC 6761).
"""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import suppress

from broker.client import folders
from broker.client.errors import Misconfigured
from broker.client.holders import nameable
from broker.client.ssh import STRICT, block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from broker.client.lease import Lease

CLOSED = "not-opened-by-broker.invalid"
"""The host name of an instance that was not opened: ssh fails on it, instead of finding another host of that name."""

DEFAULT_PATTERNS = ("*", "!*.*")
"""All but what looks like a domain name or an address: whoever may name instances must not get to be github.com."""

_PATTERN = re.compile(r"!?[A-Za-z0-9._*?/-]+", re.ASCII)
_HOSTILE = ("!*'*", "!*\\*", "!*!*", "!*:*")
"""What could end the quotes around a name in some shell: the first in all, the others in fish and csh."""

_STALE_SECONDS = 86_400
_GLOB = re.compile(r"[*?\[\]~]")

TEMPLATE = """\
# Written by `broker ssh-config`. It belongs at the top of ~/.ssh/config.
Match originalhost "{patterns}" exec "{command}"
  Include "{files}"
  # What follows only holds for an instance that was not opened: the command says why.
  HostName {closed}
  UserKnownHostsFile /dev/null
{strict}Match all
"""


def folder(environment: Mapping[str, str]) -> Path:
    """Answer where the files are."""
    return folders.lasting(environment) / "ssh"


def config(patterns: Sequence[str], command: str, files: Path) -> str:
    """Answer the block.

    Args:
        patterns: which names may be instances; empty for the default.
        command: what decides, as the person's shell takes it; `--match='%n'` is added.
        files: the folder of the included files.

    Raises:
        Misconfigured: something in it cannot be written there.
    """
    if odd := [pattern for pattern in patterns if not _PATTERN.fullmatch(pattern)]:
        raise Misconfigured(f"{odd[0]!r} is no pattern: write one like 'web-*', or '!web-9' for what it shall not be")
    if not all(nameable(text) for text in (command, str(files))) or _GLOB.search(str(files)):
        raise Misconfigured(f"ssh cannot be told of {files}: it has quotes, line ends or one of * ? [ ] ~ \\ in it")
    wanted = patterns if any(pattern[0] != "!" for pattern in patterns) else (*DEFAULT_PATTERNS, *patterns)
    return TEMPLATE.format(
        patterns=",".join((*wanted, *_HOSTILE)),
        command=f"{command.replace('%', '%%')} --match='%n'",
        files=files / "*.conf",
        closed=CLOSED,
        strict="".join(f"  {name} {value}\n" for name, value in STRICT),
    )


def write(instance: str, lease: Lease, files: Path) -> None:
    """Open an instance: write its file, and remove those of instances that were opened long ago."""
    folders.made(files)
    folders.replace(_file(instance, files), block(instance, lease))
    for path in files.glob("*.conf"):
        if _age(path) > _STALE_SECONDS:
            path.unlink(missing_ok=True)


def close(instance: str, files: Path) -> None:
    """Close an instance: without its file, the block leads nowhere."""
    with suppress(OSError):
        _file(instance, files).unlink()


def _file(instance: str, files: Path) -> Path:
    return files / f"{hashlib.sha256(instance.encode()).hexdigest()[:16]}.conf"


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
