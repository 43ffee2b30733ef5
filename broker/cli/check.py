"""`broker check`: everything that `serve` needs, each by name, all problems at once. Changes nothing, mints nothing."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable
from contextlib import closing
from typing import NamedTuple

from broker.cli.configuration import add_config, settings_of
from broker.cli.exits import Exit
from broker.cli.output import plain, write
from broker.cli.parsing import guide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Awaitable, Callable

    from broker.audit.checkpoints import VerifierKey
    from broker.audit.stores import Reader
    from broker.settings import Settings
    from broker.unsealing.masterkeys import MasterKey


class Finding(NamedTuple):
    """What is well in words, every problem, and what is worth knowing though it is none."""

    detail: str
    problems: Iterable[str] = ()
    notes: Iterable[str] = ()


EXAMPLES = """\
broker check  # by ./broker.toml or BROKER_CONFIG
broker check --config /etc/broker/broker.toml && systemctl restart broker  # only when all is well
"""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)
    guide(
        parser,
        EXAMPLES,
        {0: "serve has everything that it needs", 1: "there are problems; each is named"},
        see="broker init, broker serve, broker policy check",
    )


def run(arguments: Namespace) -> int:
    """Check, and answer 1 when there is any problem."""
    from broker.settings import SettingsError

    try:
        settings = settings_of(arguments)
    except SettingsError as error:
        for problem in error.problems:
            _say("PROBLEM", "settings", problem)
        return Exit.PROBLEMS
    _say("ok", "settings", "read")
    return Exit.PROBLEMS if asyncio.run(_check(settings)) else Exit.OK


async def _check(settings: Settings) -> int:
    """Run every check; answer how many problems there are."""
    from broker.lightsail.quiet import silence_sdk_logging

    silence_sdk_logging()
    logging.getLogger("broker").addHandler(logging.NullHandler())  # what it would say is said here, as a problem
    checks: dict[str, Callable[[Settings], Awaitable[Finding]]] = {
        "parts": _parts,
        "audit": _audit,
        "anchors": _anchors,
        "policies": _policies,
        "keys": _keys,
        "tls": _tls,
        "issuers": _issuers,
        "lightsail": _lightsail,
        "webhooks": _webhooks,
    }
    count = 0
    for component, check in checks.items():
        try:
            found = await check(settings)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a problem of this component
            found = Finding("", _sentences(error))
        problems = list(found.problems)
        for problem in problems:
            _say("PROBLEM", component, problem)
        if not problems:
            _say("ok", component, found.detail)
        for note in found.notes:
            _say("note", component, note)
        count += len(problems)
    return count


def _say(verdict: str, component: str, sentence: str) -> None:
    write(f"{verdict:<7}  {component:<10}  {plain(sentence)}")


def _sentences(error: Exception) -> Iterable[str]:
    from broker.errors import BrokerError

    problems = getattr(error, "problems", ())
    if problems:
        return [str(problem) for problem in problems]
    if isinstance(error, BrokerError):
        return [error.cause or error.detail]
    if isinstance(error, OSError):
        return [": ".join(str(part) for part in (error.filename, error.strerror) if part)]
    return [type(error).__name__]


async def _parts(_: Settings) -> Finding:
    from broker.cli.parts import floors, problems

    return Finding(f"{len(floors())} libraries are new enough", list(problems()))


async def _audit(settings: Settings) -> Finding:
    from broker import wiring
    from broker.audit.stores import StoreError, opening

    database, signing_key = settings.audit.database, wiring.signing_key(settings)
    try:
        exists = await asyncio.to_thread(opening.exists, database)
    except StoreError as problem:
        return Finding("", [str(problem)])
    there = {opening.name_of(database): exists, str(signing_key): signing_key.exists()}
    lost = [name for name, exists in there.items() if not exists]
    if lost:
        return Finding("", [f"{name} is not there; `broker init` creates it, if there never was one" for name in lost])
    return await asyncio.to_thread(_look_at, database, wiring.signer(settings).verifier)


def _look_at(database: str, verifier: VerifierKey) -> Finding:
    from broker.audit.stores import opening

    name = opening.name_of(database)
    with closing(opening.reader(database)) as reader:
        size = reader.head().size
        problems = [] if _is_whole(reader, verifier) else [f"{name} is damaged: run `broker audit verify`"]
    return Finding(f"{size} events in {name}", problems)


def _is_whole(reader: Reader, verifier: VerifierKey) -> bool:
    """Tell whether head, tree and newest checkpoint agree, as far as that is known without reading every event."""
    from broker.audit.checkpoints import CheckpointError
    from broker.audit.merkle import CompactRange, nodes_from_rows
    from broker.audit.stores import StoreError

    try:
        head, stored, nodes = reader.head(), reader.newest_checkpoint(), nodes_from_rows(reader.hashes)
        checkpoint = verifier.open(stored.note if stored else "")
        trees = ((head.size, head.root), (checkpoint.size, checkpoint.root))
        return all(CompactRange.load(size, nodes).root() == root for size, root in trees)
    except (StoreError, CheckpointError, ValueError):
        return False


async def _anchors(settings: Settings) -> Finding:
    """Hold the log against every anchor; what cannot be reached is a problem where it is required."""
    from broker import wiring
    from broker.audit.anchors.file import FileAnchor
    from broker.audit.review import Review
    from broker.audit.stores import opening

    if not settings.audit.anchors:
        return Finding("checkpoints are kept nowhere else")
    review = Review(lambda: opening.reader(settings.audit.database))
    try:
        async with wiring.anchors(settings, review) as anchors:
            found = await anchors.compare()
    finally:
        await review.close()
    problems = [f"{each.place.name}: {each.contradiction}" for each in found if each.contradiction]
    problems += [f"{each.place.name}: {each.hindrance}" for each in found if each.hindrance and each.place.required]
    notes = [f"{each.place.name}: {each.hindrance}" for each in found if each.hindrance and not each.place.required]
    database = wiring.database_file(settings)
    files = {each.name: FileAnchor(each.path) for each in settings.audit.anchors if each.kind == "file" and each.path}
    notes += [
        f"{name}: it lies on the same disk as the log, and so is rolled back with it"
        for name, file in files.items()
        if database and file.shares_the_disk_of(database)
    ]
    return Finding(", ".join(each.place.name for each in found), problems, notes)


async def _policies(settings: Settings) -> Finding:
    from broker.authorization.loading import load_snapshot

    snapshot = await asyncio.to_thread(load_snapshot, settings.policies.directory)
    problems = [] if snapshot.rules else [f"there is no policy in {settings.policies.directory}: everybody is refused"]
    return Finding(f"{len(snapshot.rules)} in {settings.policies.directory}", problems)


async def _keys(settings: Settings) -> Finding:
    from broker import wiring
    from broker.unsealing.custody import Custody
    from broker.unsealing.passwords import check_openssl

    check_openssl()
    async with wiring.master_key(settings) as master_key:
        held = (await Custody.open(settings.keys.directory, master_key)).list()
        problems = await _of_master_key(master_key)
    return Finding(f"{len(held)} in custody", problems)


async def _of_master_key(master_key: MasterKey) -> list[str]:
    """Seal a throw-away key and open it again: an empty custody would not show what KMS refuses."""
    from broker.errors import KeysUnavailable

    made, context, action = secrets.token_bytes(32), {"purpose": "check"}, "kms:Encrypt"
    try:
        wrapped = await master_key.wrap(made, context)
        action = "kms:Decrypt"
        same = await master_key.unwrap(wrapped, context) == made
    except KeysUnavailable as error:
        return [f"{action} does not work: {error.cause or error.detail}"]
    return [] if same else ["the master key does not open what it sealed"]


async def _tls(settings: Settings) -> Finding:
    from broker import wiring
    from broker.web.server import bind

    detail = "certificate and key fit" if wiring.tls(settings) else "plain HTTP on a loopback address"
    notes = []
    private_key = settings.server.tls_private_key
    if private_key and private_key.stat().st_mode & 0o077:
        notes.append(f"others can read {private_key}: chmod 600 keeps it yours")
    try:
        bind(settings.server.host, settings.server.port).close()
    except OSError as problem:
        notes.append(
            f"{settings.server.listen} cannot be had now, perhaps because the service runs: {problem.strerror}"
        )
    return Finding(detail, (), notes)


async def _issuers(settings: Settings) -> Finding:
    from broker import wiring
    from broker.identity.keysets import KeyRing

    ring = KeyRing(wiring.issuers(settings))
    try:
        await ring.refresh()
        health = ring.health()
    finally:
        await ring.close()
    return Finding(", ".join(issuer.name for issuer in settings.issuers), () if health.ready else [health.detail])


async def _lightsail(settings: Settings) -> Finding:
    from broker import wiring
    from broker.lightsail.gateway import Gateway
    from broker.lightsail.probing import probe

    async with Gateway(wiring.accounts(settings)) as gateway:
        probed = [await probe(gateway, *place) for place in gateway.places]
    return Finding(
        ", ".join("/".join(place) for place in gateway.places),
        [problem for each in probed for problem in each.problems],
        [note for each in probed for note in each.notes],
    )


async def _webhooks(settings: Settings) -> Finding:
    from broker import wiring
    from broker.outbound.http import SendingFailed, check_place

    problems = []
    for receiver in wiring.receivers(settings):
        try:
            await check_place(receiver.url, allow_private=receiver.allow_private)
        except SendingFailed as problem:
            problems.append(f"{receiver.name}: {problem}")
    return Finding(", ".join(webhook.name for webhook in settings.notify.webhooks) or "nobody is told", problems)
