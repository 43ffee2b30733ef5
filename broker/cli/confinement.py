"""What the service gives up at its start, so that nothing of it leaves: core files, debuggers, swap, proxies."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2


def confine() -> Iterator[str]:
    """Forbid core files and debuggers of the same user, and keep memory off the swap; answer what could not be had.

    A core file, and whoever reads the memory of the process, would have every key and password of the moment. A proxy
    that the environment names would be asked for the keys of the instance's role, as the SDK does. On other systems
    than Linux that is all.
    """
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        yield "memory is not locked, and debuggers are not kept out: this is not Linux"
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        yield "other programs of this user can look into the process: prctl(PR_SET_DUMPABLE) failed"
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit != resource.RLIM_INFINITY:  # a lock that fails later would end the process
        yield "memory may go to the swap: RLIMIT_MEMLOCK is not unlimited (LimitMEMLOCK=infinity, or no swap at all)"
    elif libc.mlockall(_MCL_CURRENT | _MCL_FUTURE):
        yield "memory may go to the swap: mlockall failed"


def developing() -> bool:
    """Tell whether Python runs in its development mode, or asyncio in its debug mode: both tell of values."""
    return sys.flags.dev_mode
