"""A lease as options of OpenSSH's client: the issued key and no other, the pinned host keys and no others."""

from __future__ import annotations

import socket
import time

from broker.client.errors import Misconfigured, NotReady
from broker.client.holders import nameable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from broker.client.lease import Lease

STRICT = (
    ("IdentitiesOnly", "yes"),
    ("GlobalKnownHostsFile", "/dev/null"),
    ("StrictHostKeyChecking", "yes"),
    ("UpdateHostKeys", "no"),
    ("VerifyHostKeyDNS", "no"),
    ("PreferredAuthentications", "publickey"),
    ("PasswordAuthentication", "no"),
    ("KbdInteractiveAuthentication", "no"),
    ("ForwardAgent", "no"),
    ("ControlPath", "none"),
)
"""What holds for every instance. ssh takes the first value that it meets, so these go first; `ssh -A` still forwards.

Through somebody's `ControlPath` ssh would use a connection whose host key nobody has held against the pinned ones.
"""

KNOCK_SECONDS = 3.0
_PAUSE_SECONDS = 2.0
_REPEAT_SECONDS = 20.0


def options(lease: Lease) -> list[tuple[str, str]]:
    """Answer keywords and values of ssh_config(5), the values as they stand there.

    Raises:
        Misconfigured: the folder of the lease has a name that ssh cannot be told.
    """
    return [
        ("HostName", lease.host),
        ("Port", str(lease.port)),
        ("User", lease.username),
        ("IdentityAgent", stated(lease.agent) if lease.agent else "none"),
        ("IdentityFile", stated(str(lease.identity_file))),
        ("UserKnownHostsFile", stated(str(lease.known_hosts))),
        *STRICT,
    ]


def arguments(lease: Lease, *, user: bool = True) -> list[str]:
    """Answer the options as arguments of ssh; without the user when the caller names one."""
    chosen = [(name, value) for name, value in options(lease) if user or name != "User"]
    return [word for name, value in chosen for word in ("-o", f"{name}={value}")]


def block(instance: str, lease: Lease) -> str:
    """Answer the lines for an included file: they hold for this instance alone."""
    lines = [f"  {name} {value}\n" for name, value in options(lease)]
    return "".join([f'Match originalhost "{instance}"\n', *lines])


def stated(path: str) -> str:
    """Write a path as ssh's configuration wants it.

    Raises:
        Misconfigured: there is no way to write it.
    """
    if not nameable(path):
        raise Misconfigured(f'{path}: ssh cannot be told of a path with a line end, ", \\ or ${{ in it')
    return '"' + path.replace("%", "%%") + '"'


def names_a_user(words: Sequence[str]) -> bool:
    """Tell whether arguments of ssh, up to the command, say as whom to log in: `-l USER`."""
    from getopt import GetoptError, getopt

    try:
        found, _ = getopt(list(words), "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy")
    except GetoptError:
        return False  # ssh itself says what is wrong
    return any(name == "-l" or (name == "-o" and value.lower().startswith("user=")) for name, value in found)


def goes_through_a_proxy(shown: str) -> bool:
    """Tell by what `ssh -G` shows whether ssh does not connect to the host itself."""
    found = dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)
    return any(found.get(name, "none") != "none" for name in ("proxyjump", "proxycommand"))


def knock(host: str, port: int, seconds: float = KNOCK_SECONDS) -> str:
    """Connect and hang up; answer why that was not possible, or "" when it was."""
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except OSError as error:
        return "no answer" if isinstance(error, TimeoutError) else (error.strerror or "no connection").lower()
    return ""


def await_port(
    lease: Lease,
    seconds: float,
    notice: Callable[[str], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wait until the host takes connections.

    Raises:
        NotReady: it does not within so many seconds.
    """
    where, deadline = f"{lease.host} port {lease.port}", clock() + seconds
    said_at = clock() - _REPEAT_SECONDS
    while why := knock(lease.host, lease.port):
        left = deadline - clock()
        if left <= 0:
            raise NotReady(f"{where} does not take connections ({why})")
        if clock() - said_at >= _REPEAT_SECONDS:
            notice(f"{where}: {why}; waiting for it, {int(left)} s at most")
            said_at = clock()
        sleep(min(_PAUSE_SECONDS, left))


PREPARED = "BROKER_SSH_PREPARED"
"""Names the instance for which `broker ssh` runs ssh: the Match block has nothing left to do for it."""


def child_environment(environment: Mapping[str, str], instance: str) -> dict[str, str]:
    """Answer what ssh is started with: no token of ours, and which instance is prepared."""
    kept = {name: value for name, value in environment.items() if name != "BROKER_TOKEN"}
    return kept | {PREPARED: instance}
