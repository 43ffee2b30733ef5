"""`broker serve`: run the service until SIGTERM or SIGINT; SIGHUP takes policies and certificate in anew."""

from __future__ import annotations

import asyncio
import gc
import signal

from broker.cli.configuration import add_config, settings_of
from broker.cli.exits import Exit
from broker.cli.output import complain, talk
from broker.cli.parsing import guide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Coroutine

    from broker.cli.workers import Worker
    from broker.settings import Settings
    from broker.web.connections import Listening


EXAMPLES = """\
broker serve --config broker.toml  # until SIGTERM or Ctrl-C
BROKER__SERVER__LISTEN=127.0.0.1:9443 broker serve  # with one setting from the environment
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = "SIGHUP takes policies and certificate in anew; what is broken is refused, and the old one stays."
    add_config(parser)
    guide(parser, EXAMPLES, see="broker check, broker init")


def run(arguments: Namespace) -> int:
    """Serve."""
    from broker.cli.confinement import developing
    from broker.cli.parts import problems
    from broker.observability import catch_what_nobody_catches, configure_logging

    settings = settings_of(arguments)
    if missing := list(problems()):
        for problem in missing:
            complain(problem)
        return Exit.PROBLEMS
    if developing():
        complain("Python's development mode tells of values: serve without -X dev and PYTHONDEVMODE")
        return Exit.USAGE
    configure_logging()
    catch_what_nobody_catches()
    if settings.server.workers > 1:
        return _serve_by_many(settings)
    _run(serve(settings))
    return Exit.OK


def _run(service: Coroutine[object, object, None]) -> None:
    from broker.cli.event_loop import ServiceLoop

    with asyncio.Runner(loop_factory=ServiceLoop) as runner:
        runner.run(service)


def _serve_by_many(settings: Settings) -> int:
    """Serve by several processes on one socket; each of them comes back here from the parent's `run` to serve."""
    from broker import wiring
    from broker.cli.workers import Worker, Workers

    with wiring.address(settings) as bound:
        host, port = bound.getsockname()[:2]
        place = Workers(settings.server.workers, f"{f'[{host}]' if ':' in host else host}:{port}").run()
        if isinstance(place, Worker):
            _run(serve(settings, bound, place))
            return Exit.OK
        return place


async def serve(settings: Settings, bound: Listening | None = None, worker: Worker | None = None) -> None:
    """Run the service until it is told to stop, as the only process or as one of several on a socket."""
    from broker import wiring
    from broker.cli.confinement import confine
    from broker.housekeeping import note_start
    from broker.observability import catch_what_no_task_catches

    lacking = list(confine())  # of each process: a lock on memory is not inherited
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    catch_what_no_task_catches(loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # what is loaded at start is as new as can be
    if worker:
        loop.add_reader(worker.alive, stop.set)  # the parent is gone
    async with wiring.service(settings, bound=bound) as service:
        note_start(lacking)
        reloading: set[asyncio.Task[None]] = set()

        def reload() -> None:
            task = asyncio.ensure_future(service.reload())
            reloading.add(task)
            task.add_done_callback(reloading.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)
        gc.freeze()  # what was loaded stays: without this, each full collection walks it and stops the loop for 70 ms
        if worker:
            worker.works()
        else:
            talk(f"serving on {service.url}")
        await stop.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)  # a second one ends it at once; the log survives that
        service.leave()
        await asyncio.sleep(settings.server.linger.total_seconds())
