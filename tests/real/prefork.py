"""A broker that has loaded its modules already and becomes a process of its own for each command that it is told.

Loading takes more than a second, starting the service a tenth of one; what begins after the fork is what begins after
the imports of `python -m broker`. One JSON document a line on stdin and stdout:

- `{"words": […], "folder": …, "environment": {…}, "output": …}` forks a process that waits, and answers its `pid`;
- `{"go": pid}` lets it run `broker` with those words, stdout and stderr in the file `output`;
- `{"reap": pid}` waits for its end and answers the `status` as `subprocess` has it.

When stdin ends, all that is left is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import broker.observability
import broker.settings
import broker.wiring
from broker.cli import keys, serve
from broker.cli.main import main

PRELOADED = (broker.wiring, broker.settings, broker.observability, keys, serve)

Order = dict[str, Any]


def take_orders() -> Order | None:
    """Fork for every order; answers the order in a fork, when it may go, and None when there are no more."""
    gates: dict[int, int] = {}
    children: set[int] = set()
    for line in sys.stdin:
        order: Order = json.loads(line)
        if "go" in order:
            os.close(gates.pop(order["go"]))
            answer: Order = {}
        elif "reap" in order:
            answer = {"status": os.waitstatus_to_exitcode(os.waitpid(order["reap"], 0)[1])}
            children.discard(order["reap"])
        else:
            waiting, gate = os.pipe()
            pid = os.fork()
            if not pid:
                for each in (*gates.values(), gate):
                    os.close(each)
                os.read(waiting, 1)  # answers when the gate is closed
                os.close(waiting)
                return order
            os.close(waiting)
            gates[pid] = gate
            children.add(pid)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)  # noqa: T201 -- this is its protocol
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    return None


def obey(order: Order) -> int:
    """Run one command as `python -m broker` would."""
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((nothing, output, output)):
        os.dup2(descriptor, number)
    os.close(output)
    os.close(nothing)
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    return main(order["words"])


if (todo := take_orders()) is not None:
    sys.exit(obey(todo))
