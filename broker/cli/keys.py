"""`broker keys`: custody of the RSA keys that open Windows passwords. Shows fingerprints, never key material.

Every change is an event of the audit log, durable before it is made: what cannot be recorded does not happen. While
the service runs it has the log, so the event is left in the log's spool, and the service records it within seconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from broker.cli.configuration import add_config, settings_of
from broker.cli.exits import Exit
from broker.cli.output import add_format, show, talk
from broker.cli.parsing import guide
from broker.errors import BrokerError, InvalidRequest, KeyNotHeld
from broker.model import CredentialFacts, Event, Platform, Secret, rfc3339, utc_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from typing import Protocol, TypeVar

    from broker.lightsail.listings import KeyPair
    from broker.model import Instance
    from broker.settings import Settings
    from broker.unsealing.custody import Custody
    from broker.unsealing.keypairs import HeldKey, KeyPairId
    from broker.unsealing.masterkeys import MasterKey

    Append = Callable[[Event], Awaitable[object]]
    Done = TypeVar("Done")

    class KeyPairs(Protocol):
        """Knows the key pairs of AWS; the gateway does."""

        async def key_pairs(self, account: str, region: str) -> Sequence[KeyPair]:
            """Answer all key pairs of a region."""
            ...


_COLUMNS = ("ACCOUNT", "REGION", "!KEY PAIR", ">BITS", "!FINGERPRINT AT AWS", "!ADDED")
_COVERAGE_COLUMNS = ("INSTANCE", "KEY PAIR", "STATE")
HELD, MISSING, OTHER, DEFAULT = "held", "not held", "another key at AWS", "default, none needed"
_STATES = f"""\
What the column STATE says:
  `{HELD}`  the key is in custody
  `{MISSING}`  add it with `broker keys add`
  `{OTHER}`  AWS has a new key under that name: add that one
  `{DEFAULT}`  AWS itself gives the passwords of the region's default key pair
"""
_SHARED = 0o044


_ADD_EXAMPLES = """\
broker keys add team-key --account main --region eu-west-1 --private-key team-key.pem  # from a file
pass team-key | broker keys add team-key --account main --region eu-west-1 --private-key -  # never on the disk
"""
_LIST_EXAMPLES = """\
broker keys list  # fingerprints, never key material
broker keys list --format json  # for a program
"""
_REMOVE_EXAMPLES = """\
broker keys remove team-key --account main --region eu-west-1  # its passwords cannot be opened any more
"""
_REWRAP_EXAMPLES = """\
broker keys rewrap --new-master-key file:state/master-2.key  # then set keys.master_key, and start the service anew
broker keys rewrap --new-master-key env:NEW_MASTER_KEY  # from a variable
"""
_COVERAGE_EXAMPLES = """\
broker keys coverage  # what is held, what is missing
broker keys coverage --format json  # for a program
"""


def configure(parser: ArgumentParser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, summary: str, run: Callable[[Namespace], Awaitable[int]]) -> ArgumentParser:
        sub = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        sub.set_defaults(run_verb=run)
        add_config(sub)
        return sub

    add = _place(verb("add", "take a private key into custody, if AWS shows its fingerprint", _add))
    add.add_argument("--private-key", required=True, metavar="FILE|-", help="unencrypted PEM; - reads stdin")
    held = verb("list", "list the keys in custody", _list)
    add_format(held, "table", "json", "yaml")
    removed = _place(verb("remove", "forget a key", _remove))
    anew = verb("rewrap", "encrypt every key anew under another master key; completes a rewrap cut short", _rewrap)
    anew.add_argument(
        "--new-master-key",
        required=True,
        metavar="SPEC",
        help="file:PATH (32 random bytes as base64, mode 0600), env:NAME or kms:ARN",
    )
    covered = verb("coverage", "tell whether the password of each Windows instance can be opened", _coverage)
    covered.epilog = _STATES
    add_format(covered, "table", "json", "yaml")
    guide(add, _ADD_EXAMPLES, see="broker keys coverage, broker keys remove")
    guide(held, _LIST_EXAMPLES, see="broker keys coverage")
    guide(removed, _REMOVE_EXAMPLES, see="broker keys list")
    guide(anew, _REWRAP_EXAMPLES, see="broker check")
    guide(covered, _COVERAGE_EXAMPLES, {1: "a key is not held or is another one"}, see="broker keys add")


def run(arguments: Namespace) -> int:
    """Run one verb."""
    code: int = asyncio.run(arguments.run_verb(arguments))
    return code


def _place(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("name", metavar="NAME", help="the key pair's name in Lightsail")
    parser.add_argument("--account", required=True, metavar="A", help="an account of the settings, by its name there")
    parser.add_argument("--region", required=True, metavar="R", help="an AWS region")
    return parser


# -- what the verbs do


async def keep(custody: Custody, aws: KeyPairs, append: Append, key_pair: KeyPairId, private_key: Secret) -> HeldKey:
    """Take a private key into custody, when it is the one that AWS knows by this name; replaces an older one.

    Raises:
        InvalidRequest: AWS has no such key pair, or the key is not fit, or not the one.
    """
    from broker.unsealing.keypairs import examine

    pairs = await aws.key_pairs(key_pair.account, key_pair.region)
    fingerprint = next((pair.fingerprint for pair in pairs if pair.name == key_pair.name), None)
    if fingerprint is None:
        raise InvalidRequest(f"AWS has no key pair {key_pair}")
    held = examine(key_pair, private_key, fingerprint, utc_now())
    await _recorded(append, _event("keys.added", held), lambda: custody.add(held))
    return held


async def forget(custody: Custody, append: Append, key_pair: KeyPairId) -> None:
    """Remove a key; raises KeyNotHeld when there is none."""
    held = custody.get(key_pair)
    if held is None:
        raise KeyNotHeld(f"no key of {key_pair} is in custody")
    await _recorded(append, _event("keys.removed", held), lambda: custody.remove(key_pair))


async def seal_anew(directory: Path, old: MasterKey, new: MasterKey, append: Append) -> int:
    """Put every key under a new master key; answer how many there were to do."""
    from broker.unsealing.custody import rewrap

    details = {"old_master_key": old.id, "new_master_key": new.id}
    event = Event(event="keys.rewrapped", outcome="success", details=details)
    return len(await _recorded(append, event, lambda: rewrap(directory, old, new)))


async def covered(custody: Custody, aws: KeyPairs, instances: Iterable[Instance]) -> list[dict[str, str]]:
    """Say for each Windows instance whether its password can be opened."""
    from broker.unsealing.keypairs import KeyPairId
    from broker.unsealing.vault import DEFAULT_KEY_PAIR

    windows = [(i.ref, i.key_pair or DEFAULT_KEY_PAIR) for i in instances if i.platform is Platform.WINDOWS]
    pairs = [(ref, KeyPairId(ref.account, ref.region, name)) for ref, name in windows]
    at_aws = {
        KeyPairId(*place, pair.name): pair.fingerprint
        for place in sorted({(of.account, of.region) for _, of in pairs if of.name != DEFAULT_KEY_PAIR})
        for pair in await aws.key_pairs(*place)
    }

    def state(key_pair: KeyPairId) -> str:
        if key_pair.name == DEFAULT_KEY_PAIR:
            return DEFAULT
        held = custody.get(key_pair)
        if held is None:
            return MISSING
        # A key pair that was deleted at AWS still opens what was encrypted to it.
        return HELD if key_pair not in at_aws or held.matches(at_aws[key_pair]) else OTHER

    return [{"instance": str(ref), "key_pair": pair.name, "state": state(pair)} for ref, pair in pairs]


async def _recorded(append: Append, event: Event, change: Callable[[], Awaitable[Done]]) -> Done:
    """Record a change, then make it; when that fails, record that too."""
    await append(event)
    try:
        return await change()
    except BrokerError as error:
        await append(replace(event, outcome="failure", error=error.code))
        raise


def _event(name: str, held: HeldKey) -> Event:
    details = {"fingerprint": held.fingerprint_at_aws, "key_id": held.key_id}
    facts = CredentialFacts(key_pair=held.id.name)
    return Event(event=name, outcome="success", target=str(held.id), credential=facts, details=details)


# -- the verbs


async def _add(arguments: Namespace) -> int:
    from broker.lightsail.gateway import Gateway
    from broker.wiring import accounts, operator_log

    settings = settings_of(arguments)
    key_pair = _key_pair(arguments, settings)
    private_key = _read(arguments.private_key)
    async with (
        _custody(settings) as custody,
        Gateway(accounts(settings)) as gateway,
        operator_log(settings, talk) as append,
    ):
        held = await keep(custody, gateway, append, key_pair, private_key)
    talk(f"in custody: the key of {held.id}, RSA {held.bits} bits, {held.fingerprint_at_aws}")
    return Exit.OK


async def _list(arguments: Namespace) -> int:
    async with _custody(settings_of(arguments)) as custody:
        show(map(_item, custody.list()), arguments.format, _COLUMNS, _cells, "no keys are in custody")
    return Exit.OK


async def _remove(arguments: Namespace) -> int:
    from broker.wiring import operator_log

    settings = settings_of(arguments)
    key_pair = _key_pair(arguments, settings)
    async with _custody(settings) as custody, operator_log(settings, talk) as append:
        try:
            await forget(custody, append, key_pair)
        except KeyNotHeld as nothing:
            talk(f"{nothing.cause}; `broker keys list` shows what is")
            return Exit.USAGE
    talk(f"no longer in custody: the key of {key_pair}")
    return Exit.OK


async def _rewrap(arguments: Namespace) -> int:
    from broker.wiring import master_key, operator_log

    settings = settings_of(arguments)
    keys = settings.keys.model_copy(update={"master_key": arguments.new_master_key})
    changed = settings.model_copy(update={"keys": keys})
    async with master_key(settings) as old, master_key(changed) as new, operator_log(settings, talk) as append:
        count = await seal_anew(settings.keys.directory, old, new, append)
    talk(f"keys under the new master key: {count}; now set keys.master_key and start the service anew")
    talk("a service that runs goes on with the keys that it holds until then")
    return Exit.OK


async def _coverage(arguments: Namespace) -> int:
    from broker.lightsail.gateway import Gateway
    from broker.lightsail.inventory import Inventory
    from broker.wiring import accounts

    settings = settings_of(arguments)
    async with _custody(settings) as custody, Gateway(accounts(settings)) as gateway:
        inventory = Inventory(gateway)
        try:
            rows = await covered(custody, gateway, await inventory.instances())
            blind = inventory.health().detail
        finally:
            await inventory.close()
    show(rows, arguments.format, _COVERAGE_COLUMNS, lambda row: tuple(row.values()), "there is no Windows instance")
    if blind:
        talk(f"not everything could be looked at: {blind}")
    return Exit.PROBLEMS if blind or any(row["state"] not in {HELD, DEFAULT} for row in rows) else Exit.OK


@asynccontextmanager
async def _custody(settings: Settings) -> AsyncIterator[Custody]:
    from broker.unsealing.custody import Custody
    from broker.wiring import master_key

    async with master_key(settings) as master:
        yield await Custody.open(settings.keys.directory, master)


def _key_pair(arguments: Namespace, settings: Settings) -> KeyPairId:
    from broker.unsealing.keypairs import KeyPairId

    places = [(account.name, region) for account in settings.accounts for region in account.regions]
    if (arguments.account, arguments.region) not in places:
        known = ", ".join("/".join(place) for place in places)
        raise InvalidRequest(f"the settings have no {arguments.account}/{arguments.region}, but {known}")
    return KeyPairId.of(arguments.account, arguments.region, arguments.name)


def _read(source: str) -> Secret:
    """Read at most one character more than a key may have."""
    from broker.unsealing.keypairs import MAX_PEM_CHARACTERS

    if source == "-":
        return Secret(sys.stdin.read(MAX_PEM_CHARACTERS + 1))
    with Path(source).open(encoding="utf-8", errors="replace") as file:
        if os.fstat(file.fileno()).st_mode & _SHARED:
            talk(f"warning: {source} can be read by other users of this machine: chmod 600 it, or take it offline")
        return Secret(file.read(MAX_PEM_CHARACTERS + 1))


def _item(held: HeldKey) -> dict[str, object]:
    return {
        "account": held.id.account,
        "region": held.id.region,
        "key_pair": held.id.name,
        "bits": held.bits,
        "fingerprint": held.fingerprint_at_aws,
        "key_id": held.key_id,
        "added_at": rfc3339(held.added_at),
    }


def _cells(item: dict[str, object]) -> tuple[object, ...]:
    return tuple(value for name, value in item.items() if name != "key_id")
