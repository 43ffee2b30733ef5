"""`broker hosts`: by which keys instances must prove themselves, and accepting others when they changed."""

from __future__ import annotations

import base64
import sys

from broker.cli import output
from broker.cli.exits import Exit
from broker.cli.parsing import guide
from broker.cli.service import service
from broker.cli.suggesting import likely
from broker.client import Misconfigured
from broker.client.names import parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Mapping, Sequence

    from broker.cli.parsing import Parser
    from broker.client import Broker
    from broker.client.documents import HostDocument

COLUMNS = ("/INSTANCE", "!ALGORITHM", "FINGERPRINT", "!STATE")
OF_ONE = ("!STATE", "!ALGORITHM", "!FINGERPRINT")
"""Of one instance, whose fingerprints are there to be compared: they are never shortened."""
RDP_CERTIFICATE = "x509-cert"
_NONE = "no instance is held to host keys that you may accept or read: they are pinned with the first credential"


_LS_EPILOG = "On a terminal, fingerprints are shortened to what fits; `broker hosts show` has them whole."
_LS_EXAMPLES = """\
broker hosts ls  # every key, pinned or offered
broker hosts ls --format json  # for a program
"""
_SHOW_EXAMPLES = """\
broker hosts show web-1  # those of one instance
broker hosts show main/eu-west-1/web-1  # where the name alone is ambiguous
"""
_ACCEPT_EXAMPLES = """\
broker hosts accept web-1 --reason "rebuilt after OPS-7"  # asks, with both sets of keys before your eyes
broker hosts accept web-1 --fingerprint SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU  # without a terminal
"""


def configure(parser: Parser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    parser.usual_verb = "ls"
    parser.epilog = "Without a verb, it lists them."

    def verb(name: str, summary: str, run: Callable[[Namespace], int]) -> ArgumentParser:
        sub: ArgumentParser = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        sub.set_defaults(run_verb=run)
        return sub

    listing = verb("ls", "list the keys that instances are held to, and those offered instead", _list)
    listing.epilog = _LS_EPILOG
    output.add_format(listing, *_FORMATS)
    show = verb("show", "show the keys that one instance is held to, and those offered instead", _show)
    accept = verb("accept", "hold an instance to the keys that AWS offers now", _accept)
    for sub in (show, accept):
        sub.add_argument("instance", metavar="INSTANCE", help="its name, or account/region/name")
    output.add_format(show, *_FORMATS)
    help_text = "one of the offered keys, learned from elsewhere, as SHA256:… or in hex; once for each of them"
    accept.add_argument("--fingerprint", metavar="FINGERPRINT", action="append", default=[], help=help_text)
    accept.add_argument("--reason", metavar="TEXT", default="", help="why they changed; policies may ask for it")
    accept.add_argument("--ticket", metavar="ID", default="", help="the ticket; policies may ask for it")
    guide(listing, _LS_EXAMPLES, see="broker hosts show")
    guide(show, _SHOW_EXAMPLES, {1: "no such host", 5: "AWS offers other keys"}, see="broker hosts accept")
    exits = {1: "no such host, or AWS offers no other keys", 5: "the keys were not confirmed"}
    guide(accept, _ACCEPT_EXAMPLES, exits, see="broker hosts show")


_FORMATS = ("table", "json", "yaml")


def run(arguments: Namespace) -> int:
    """Run one verb."""
    return int(arguments.run_verb(arguments))


def _list(arguments: Namespace) -> int:
    with service() as broker:
        hosts = list(broker.hosts())
    _print(hosts, arguments.format)
    return Exit.OK


def _show(arguments: Namespace) -> int:
    with service() as broker:
        host = _host(broker, arguments.instance)
    if host is None:
        return Exit.PROBLEMS
    _print([host], arguments.format, OF_ONE)
    return Exit.MISMATCH if host["offered"] else Exit.OK


def _accept(arguments: Namespace) -> int:
    with service() as broker:
        host = _host(broker, arguments.instance)
        if host is None:
            return Exit.PROBLEMS
        if not host["offered"]:
            output.talk(
                f"AWS offers no other keys for {_name(host)}; a change shows when somebody asks for a credential"
            )
            return Exit.PROBLEMS
        if not _confirmed(host, arguments.fingerprint):
            return Exit.MISMATCH
        accepted = broker.accept_host_keys(host, reason=arguments.reason, ticket=arguments.ticket)
    output.talk(f"{_name(host)} is held to these keys from now on (event {accepted['audit']['index']})")
    return Exit.OK


def _host(broker: Broker, instance: str) -> HostDocument | None:
    """Find one host; a bare name must be that of one only."""
    wanted = parts(instance)
    hosts = list(broker.hosts())
    found = [host for host in hosts if [host["account"], host["region"], host["name"]][-len(wanted) :] == wanted]
    if len(found) > 1:
        raise Misconfigured(f"more than one instance has this name; write one of {', '.join(map(_name, found))}")
    if not found:
        output.complain(f"{instance} is not held to host keys, or you may neither accept nor read them")
        meant = likely(instance, map(_name, hosts))
        output.advise("next", f"{f'did you mean {meant}? ' if meant else ''}`broker hosts` lists those that you may")
    return found[0] if found else None


def _confirmed(host: HostDocument, stated: Sequence[str]) -> bool:
    """Tell whether a person, or who started the command, knows the offered keys."""
    if stated:
        known = {_plain_hex(text) for text in stated}
        if known == {key.partition(" ")[2] for key in host["offered"]}:
            return True
        output.complain("these are not the fingerprints that AWS offers; nothing was accepted")
        output.advise("next", f"compare with `broker hosts show {_name(host)}`, and with what the instance itself says")
        return False
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Misconfigured("without a terminal, name each key by --fingerprint, as `broker hosts show` shows it")
    output.talk(f"{_name(host)} is held to")
    _talk_of(host["host_keys"])
    output.talk("and AWS offers")
    _talk_of(host["offered"])
    output.talk("Compare with what the instance itself says: `ssh-keygen -lf` of its /etc/ssh/*.pub. Accept? [yes/no]")
    if sys.stdin.readline().strip() == "yes":
        return True
    output.talk("nothing was accepted")
    return False


def _talk_of(keys: Sequence[str]) -> None:
    for key in keys:
        output.talk(f"  {' '.join(shown(key))}")


def shown(key: str) -> tuple[str, str]:
    """Answer algorithm and fingerprint, as `ssh-keygen -l` writes it; that of an RDP certificate in hex."""
    algorithm, _, digest = key.partition(" ")
    raw = bytes.fromhex(digest)
    if algorithm == RDP_CERTIFICATE:
        return algorithm, raw.hex(":")
    return algorithm, f"SHA256:{base64.b64encode(raw).decode().rstrip('=')}"


def _plain_hex(fingerprint: str) -> str:
    """Read a fingerprint in any of the forms that it is shown in; raises Misconfigured."""
    try:
        if fingerprint.startswith("SHA256:"):
            text = fingerprint.removeprefix("SHA256:")
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True).hex()
        return bytes.fromhex(fingerprint.replace(":", "")).hex()
    except ValueError:
        raise Misconfigured("a fingerprint is written SHA256:… or in hex, as `broker hosts show` writes it") from None


def _print(hosts: Sequence[HostDocument], form: str, columns: Sequence[str] = COLUMNS) -> None:
    if form == "table":
        rows = [
            {"instance": _name(host), "key": key, "state": state}
            for host in hosts
            for state, keys in (("pinned", host["host_keys"]), ("offered", host["offered"]))
            for key in keys
        ]
        output.show(rows, form, columns, lambda row: _cells(row, columns), _NONE)
    else:
        output.show(hosts, form, (), lambda _: (), "")


def _cells(row: Mapping[str, str], columns: Sequence[str]) -> tuple[str, ...]:
    algorithm, fingerprint = shown(row["key"])
    if columns is OF_ONE:
        return row["state"], algorithm, fingerprint
    return row["instance"], algorithm, fingerprint, row["state"]


def _name(host: HostDocument) -> str:
    return f"{host['account']}/{host['region']}/{host['name']}"
