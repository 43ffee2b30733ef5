"""Importing does nothing: no file written, no connection, no thread, no other program; and no environment is needed."""

from __future__ import annotations

import subprocess
import sys

from tests.architecture.source import ROOT

PROGRAM = """
import importlib, os, pkgutil, sys, threading
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
# What other libraries do when they are imported is theirs.
import alembic.config, aioboto3, aiohttp, asyncpg, cedarpy, jinja2, joserfc, orjson, pydantic, sqlalchemy, structlog
import broker
import opentelemetry.exporter.otlp.proto.http.trace_exporter
done = []
OF_INTEREST = {"socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.fork", "os.exec", "os.remove",
               "os.mkdir", "os.rename", "os.putenv", "os.unsetenv", "_thread.start_new_thread", "sqlite3.connect"}
def note(event, arguments):
    if event in OF_INTEREST:
        done.append(f"{event} {arguments}")
    elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        done.append(f"{event} {arguments}")
sys.addaudithook(note)
before = dict(os.environ), threading.active_count(), structlog.is_configured()
names = [each.name for each in pkgutil.walk_packages(broker.__path__, "broker.")]
for name in names:
    if not name.endswith("__main__") and ".migrations." not in name:
        importlib.import_module(name)
assert (dict(os.environ), threading.active_count(), structlog.is_configured()) == before
assert done == [], done
print(len(names))
"""


def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", program, str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={}, timeout=60)


def test_importing_every_module_does_nothing_else() -> None:
    ran = run(PROGRAM)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 200


COMMAND = "import sys; sys.path.insert(0, sys.argv.pop(1)); from broker.cli.main import main; sys.exit(main())"


def test_the_command_line_works_isolated_from_every_environment() -> None:
    assert "broker COMMAND" in run(COMMAND, "help").stdout
    assert run(COMMAND, "--version").returncode == 0
