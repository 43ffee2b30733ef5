"""`broker check`: everything that `serve` needs, each by name, all problems at once. Changes nothing, mints nothing."""

from __future__ import annotations

import asyncio

from broker.cli.configuration import add_config, settings_of
from broker.cli.exits import Exit
from broker.cli.output import plain, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Awaitable, Callable, Iterable

    from broker.settings import Settings

    Finding = tuple[str, Iterable[str]]
    """What is well in words, and every problem."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_config(parser)


def run(arguments: Namespace) -> int:
    """Check, and answer 1 when there is any problem."""
    from broker.settings import SettingsError

    try:
        settings = settings_of(arguments)
    except SettingsError as error:
        for problem in error.problems:
            _say("settings", problem, well=False)
        return Exit.PROBLEMS
    _say("settings", "read", well=True)
    return Exit.PROBLEMS if asyncio.run(_check(settings)) else Exit.OK


async def _check(settings: Settings) -> int:
    """Run every check; answer how many problems there are."""
    from broker.lightsail.quiet import silence_sdk_logging

    silence_sdk_logging()
    checks: dict[str, Callable[[Settings], Awaitable[Finding]]] = {
        "audit": _audit,
        "policies": _policies,
        "keys": _keys,
        "tls": _tls,
        "issuers": _issuers,
        "lightsail": _lightsail,
    }
    count = 0
    for component, check in checks.items():
        try:
            detail, problems = await check(settings)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a problem of this component
            detail, problems = "", list(_sentences(error))
        found = list(problems)
        for problem in found:
            _say(component, problem, well=False)
        if not found:
            _say(component, detail, well=True)
        count += len(found)
    return count


def _say(component: str, sentence: str, *, well: bool) -> None:
    write(f"{'ok     ' if well else 'PROBLEM'}  {component:<10}  {plain(sentence)}")


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


async def _audit(settings: Settings) -> Finding:
    from broker import wiring
    from broker.audit.stores import StoreError
    from broker.audit.stores.sqlite_reader import SqliteReader

    database = wiring.database(settings)
    problems: list[str] = []
    size = 0
    try:
        wiring.signer(settings)
    except Exception as error:  # noqa: BLE001 - told, and the database is looked at all the same
        problems += _sentences(error)
    if not database.exists():
        problems.append(f"{database} is not there; `broker init` creates it")
    else:
        try:
            reader = SqliteReader(database)
            size = reader.head().size
            reader.close()
        except StoreError as error:
            problems.append(f"{database}: {error}")
    return f"{size} events in {database}", problems


async def _policies(settings: Settings) -> Finding:
    from broker.authorization.loading import load_snapshot

    snapshot = await asyncio.to_thread(load_snapshot, settings.policies.directory)
    problems = [] if snapshot.rules else [f"there is no policy in {settings.policies.directory}: everybody is refused"]
    return f"{len(snapshot.rules)} in {settings.policies.directory}", problems


async def _keys(settings: Settings) -> Finding:
    from broker import wiring
    from broker.unsealing.custody import Custody
    from broker.unsealing.passwords import check_openssl

    check_openssl()
    async with wiring.master_key(settings) as master_key:
        held = (await Custody.open(settings.keys.directory, master_key)).list()
    return f"{len(held)} in custody", ()


async def _tls(settings: Settings) -> Finding:
    from broker import wiring

    return ("certificate and key fit" if wiring.tls(settings) else "plain HTTP on a loopback address"), ()


async def _issuers(settings: Settings) -> Finding:
    from broker import wiring
    from broker.identity.keysets import KeyRing

    ring = KeyRing(wiring.issuers(settings))
    try:
        await ring.refresh()
        health = ring.health()
    finally:
        await ring.close()
    return ", ".join(issuer.name for issuer in settings.issuers), () if health.ready else [health.detail]


async def _lightsail(settings: Settings) -> Finding:
    from broker import wiring
    from broker.lightsail.gateway import Gateway
    from broker.lightsail.probing import probe

    async with Gateway(wiring.accounts(settings)) as gateway:
        problems = [problem for place in gateway.places for problem in await probe(gateway, *place)]
    return ", ".join("/".join(place) for place in gateway.places), problems
