"""The frame of the command `broker`: finds the command's module, imports that one alone, and runs it.

A command's module has `configure(parser)` and `run(arguments) -> int`, where the int is one of `exits.Exit`.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from broker import __version__
from broker.cli.exits import Exit
from broker.cli.output import bold, complain, write
from broker.cli.parsing import Parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

GROUPS = {
    "Get in": {
        "login": ("login", "log in at your company's identity provider"),
        "logout": ("logout", "forget the login, and every key that is still good"),
        "whoami": ("whoami", "how the service sees you, and where your token comes from"),
        "ssh": ("ssh", "log in to an instance, with a key that lives in memory"),
        "rdp": ("rdp", "open a Windows instance in the RDP client of this machine"),
        "ssh-config": ("ssh_config", "let plain ssh, scp, rsync and Ansible get in"),
        "get": ("get", "a credential for one instance, for a script"),
        "request": ("request", "ask for access that somebody has to approve; answer such requests"),
        "break-glass": ("break_glass", "look at how somebody broke the glass, and sign it off"),
        "lock": ("lock", "keep a person, a program, an instance or an account out"),
        "doctor": ("doctor", "why can I not get in: the cause, and the fix"),
        "exec": ("exec", "run a program with a credential that is gone when it ends"),
    },
    "Look": {
        "ls": ("instances", "the instances that you may reach, and how"),
        "leases": ("leases", "the credentials that are out now: who, where, until when"),
        "hosts": ("hosts", "the keys by which instances prove themselves; accept changed ones"),
        "blueprints": ("blueprints", "what instances are made from"),
        "bundles": ("bundles", "the sizes of instances, and which can run a blueprint"),
        "completion": ("completion", "let the shell complete commands, options and instances"),
    },
    "Run the service": {
        "demo": ("demo", "see it all work on this machine"),
        "init": ("init", "create the state: audit log and keys"),
        "check": ("check", "test everything that serve needs"),
        "serve": ("serve", "run the service"),
        "console-link": ("console_link", "a one-time link to the console, for one person"),
        "keys": ("keys", "the RSA keys that open Windows passwords"),
        "notify": ("notify", "the receivers of notices"),
        "emulator": ("emulator", "an embedded Lightsail to try things on"),
    },
    "Prove": {
        "receipt": ("receipt", "what proves later that a credential's event was in the log"),
        "policy": ("policy", "check and test the policies"),
        "audit": ("audit", "verify, search, export and look after the audit log"),
    },
}
"""Every command: its group, its name, its module in `broker.cli` and what it is for."""

COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}

ENVIRONMENT = """\
  BROKER_URL          the address, https://…; else that of the last login
  BROKER_REASON       why, where --reason does not say it
  BROKER_TICKET       the ticket, where --ticket does not name it
  BROKER_TOKEN_FILE   a file with an access token; goes before a login
  BROKER_TOKEN        the token itself; goes before BROKER_TOKEN_FILE
  BROKER_DPOP_KEY     the file of the P-256 key that this token is bound to
  BROKER_CA_FILE      the authority of its certificate, if that is a private one
  BROKER_CLIENT_CERT  a client certificate to show
  BROKER_CLIENT_KEY   the file of its key
  BROKER_CONFIG       the settings, for the commands that run the service
  NO_COLOR            no colours
  BROKER_DEBUG        show the traceback of an error
"""

EXIT_CODES = """\
  0 ok              4 not ready yet
  1 problems found  5 wrong identity
  2 wrong usage     6 needs a stronger login, a reason, a ticket or an approval
  3 denied          7 service, AWS or audit log unavailable; 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; answer its exit code."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a TextIO in name, a file in fact
    words = list(sys.argv[1:] if argv is None else argv)
    code = _guarded(words)
    try:
        sys.stdout.flush()
    except OSError as error:
        _abandon_output()
        return code or _explained(error, words)
    return code


def _guarded(words: list[str]) -> int:
    """Dispatch; whatever happens becomes an exit code."""
    try:
        return int(_dispatch(words))
    except SystemExit as end:  # argparse's own, after --help or wrong usage
        return end.code if isinstance(end.code, int) else Exit.USAGE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the outermost frame: a person gets a sentence, never a traceback
        return _explained(error, words)


def _explained(error: Exception, words: list[str]) -> int:
    if isinstance(error, BrokenPipeError):
        return Exit.OK  # whoever read our output has seen enough: `broker ls | head`
    from broker.cli.failures import explain

    return explain(error, words[0] if words else "", words)


def _dispatch(words: list[str]) -> int:
    match words:
        case ["-h" | "--help"] | ["help"]:
            write(overview())
        case ["--version" | "-V"]:
            write(f"broker {__version__}")
        case ["complete", *rest]:
            from broker.cli.completing import run

            return run(rest)
        case ["help", *rest]:
            return _dispatch([*rest, "--help"])
        case [name, *rest] if name in COMMANDS:
            return _run(name, rest)
        case [name, *_]:
            complain(_unknown(name))
            return Exit.USAGE
        case _:
            sys.stderr.write(overview() + "\n")
            return Exit.USAGE
    return Exit.OK


def _run(name: str, words: list[str]) -> int:
    parser = parser_of(name)
    if parser.usual_verb and (not words or words[0].startswith("--format")):
        words = [parser.usual_verb, *words]
    if parser.has_verbs and not words:
        parser.print_help(sys.stderr)
        return Exit.USAGE
    code: int = _module(name).run(parser.parse_args(words))
    return code


def parser_of(name: str) -> Parser:
    """Answer the parser of a command, with all of its verbs."""
    parser = Parser(prog=f"broker {name}", description=COMMANDS[name][1])
    _module(name).configure(parser)
    return parser


def _module(name: str) -> ModuleType:
    return import_module(f"broker.cli.{COMMANDS[name][0]}")


def overview() -> str:
    """Write what `broker --help` shows."""
    lines = ["Short-lived SSH and RDP credentials for Amazon Lightsail.", ""]
    lines += ["  broker COMMAND [OPTIONS]", "  broker help COMMAND", ""]
    for group, commands in GROUPS.items():
        lines += [bold(group, sys.stdout), *(f"  {name:<12}{summary}" for name, (_, summary) in commands.items()), ""]
    lines += [bold("Environment", sys.stdout), ENVIRONMENT, bold("Exit codes", sys.stdout), EXIT_CODES.rstrip()]
    return "\n".join(lines)


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean `broker {close[0]}`?" if close else "`broker --help` lists them all"
    return f"there is no command {name!r}; {hint}"


def _abandon_output() -> None:
    """Let what could not be written go, so that the interpreter does not try again, and complain, when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    raise SystemExit(main())
