"""The composition root: a list of what is opened, in which order, with what. No logic.

The only place, beside `cli`, that knows the settings. What is opened first is closed last, so that the log is there
from the first event to the last.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from broker import __version__
from broker.audit.checkpoints import Signer
from broker.audit.keyfiles import load_signer
from broker.audit.log import AuditLog
from broker.audit.operators import operator_log as open_for_operator
from broker.audit.review import Review
from broker.audit.spool import Append, Spool
from broker.audit.stores.sqlite import SqliteStore
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.authorization.policies import Policies
from broker.delivery.credentials import credential
from broker.housekeeping import (
    collecting,
    ended,
    record_failures,
    record_policies,
    reload_policies,
    watch_keys,
    watch_policies,
)
from broker.identity.authenticator import Authenticator
from broker.identity.issuers import Issuer
from broker.identity.keysets import KeyRing
from broker.issuing.desk import CredentialDesk
from broker.lightsail.gateway import Gateway
from broker.lightsail.inventory import Inventory
from broker.lightsail.key_service import key_service
from broker.lightsail.session import Account
from broker.model import Clock, Health, utc_now
from broker.observability import Metrics
from broker.settings import Settings, SettingsError
from broker.unsealing.custody import Custody
from broker.unsealing.masterkeys import MasterKey, kms_region, load_master_key
from broker.unsealing.vault import Vault
from broker.web import openapi
from broker.web.app import Edge
from broker.web.audit import Audit
from broker.web.credentials import Credentials
from broker.web.doors import Admission, Doors, RateLimit
from broker.web.health import Description, TrustedIssuer
from broker.web.instances import Instances
from broker.web.server import Listener, bind, tls_context


def database(settings: Settings) -> Path:
    """Answer the file of the audit log.

    Raises:
        SettingsError: it is to be in PostgreSQL, which this version cannot do.
    """
    if not settings.audit.database.startswith("sqlite:///"):
        raise SettingsError(["audit.database: this version keeps the log in SQLite only: sqlite:///PATH"])
    return Path(settings.audit.database.removeprefix("sqlite:///"))


def signing_key(settings: Settings) -> Path:
    """Answer the file of the log's signing key."""
    return Path(settings.audit.signing_key.removeprefix("file:"))


def signer(settings: Settings) -> Signer:
    """Load the log's signing key."""
    return load_signer(signing_key(settings), settings.audit.origin)


def issuers(settings: Settings) -> list[Issuer]:
    """Answer who may vouch for a caller."""
    return [Issuer(**{**dict(issuer), "jwks_uri": issuer.jwks_uri or ""}) for issuer in settings.issuers]


def accounts(settings: Settings) -> list[Account]:
    """Answer where instances live."""
    return [Account(**dict(account)) for account in settings.accounts]


@asynccontextmanager
async def master_key(settings: Settings) -> AsyncIterator[MasterKey]:
    """Load the key-custody master key; with `kms:`, the client stays open as long as the context."""
    region = kms_region(settings.keys.master_key)
    if region is None:
        yield load_master_key(settings.keys.master_key)
        return
    async with key_service(region) as kms:
        yield load_master_key(settings.keys.master_key, key_service=kms)


@asynccontextmanager
async def audit_log(settings: Settings, clock: Clock = utc_now) -> AsyncIterator[AuditLog]:
    """Open the log for writing."""
    log = await AuditLog.open(SqliteStore(database(settings)), signer(settings), clock=clock, version=__version__)
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def operator_log(
    settings: Settings, say: Callable[[str], object], clock: Clock = utc_now
) -> AsyncIterator[Append]:
    """Answer how an operator's command records what it does, whether or not the service runs; `say` tells people."""
    store, spool = SqliteStore(database(settings)), Spool(database(settings), clock)
    async with open_for_operator(store, signer(settings), spool, say=say, clock=clock) as append:
        yield append


@dataclass(frozen=True, slots=True)
class Service:
    """A running service. `reload_policies` takes them in as they are now; `checkpoint` seals the log now."""

    url: str
    listener: Listener
    reload_policies: Callable[[], Awaitable[None]]
    checkpoint: Callable[[], Awaitable[str]]


@asynccontextmanager
async def service(settings: Settings, clock: Clock = utc_now) -> AsyncIterator[Service]:
    """Run the service until the context ends."""
    # First all that a mistake in settings, files or keys can stop: a start that fails leaves no event.
    secured = tls(settings)
    policies = Policies(settings.policies.directory)
    snapshot = await asyncio.to_thread(policies.load)
    async with AsyncExitStack() as stack:
        bound = stack.enter_context(bind(settings.server.host, settings.server.port))
        master = await stack.enter_async_context(master_key(settings))
        custody = await Custody.open(settings.keys.directory, master, clock)
        vault = Vault(custody, clock)
        stack.callback(vault.close)

        log = await stack.enter_async_context(audit_log(settings, clock))
        await stack.enter_async_context(collecting(Spool(database(settings), clock), log))
        review = Review(lambda: SqliteReader(database(settings)))
        stack.push_async_callback(review.close)

        await record_policies(log, snapshot)

        authenticator = Authenticator(issuers(settings), KeyRing(issuers(settings)), clock)
        await authenticator.start()
        stack.push_async_callback(authenticator.close)

        gateway = await stack.enter_async_context(Gateway(accounts(settings), clock=clock))
        inventory = Inventory(gateway, clock)
        await inventory.start()
        stack.push_async_callback(inventory.close)

        desk = CredentialDesk(
            inventory=inventory,
            policies=policies,
            gateway=gateway,
            vault=vault,
            ledger=log,
            delivery=credential,
            clock=clock,
        )
        names = frozenset(account.name for account in settings.accounts)
        metrics = Metrics()
        routes = [
            *Credentials(desk).routes(),
            *Instances(inventory, policies, clock).routes(),
            *Audit(review, log, policies, names, clock).routes(),
        ]
        components: list[Callable[[], Health]] = [
            log.health,
            policies.health,
            authenticator.health,
            inventory.health,
            vault.health,
        ]
        trusted = [TrustedIssuer(i.name, i.issuer, i.cli_client_id) for i in settings.issuers]
        routes += Description(components, metrics, trusted, lambda: openapi.document(routes)).routes()
        doors = Doors(
            authenticator,
            RateLimit(settings.limits.per_caller_per_minute),
            Admission(settings.limits.concurrent_requests),
        )
        proxies = [ipaddress.ip_network(network) for network in settings.server.trusted_proxies]
        listener = Listener(Edge(doors, metrics, proxies).application(routes), bound, secured)

        for chore in (watch_policies(policies, log), watch_keys(custody), record_failures(authenticator, log)):
            stack.push_async_callback(ended, asyncio.create_task(chore))
        url = await listener.start()
        stack.push_async_callback(listener.stop)
        yield Service(url, listener, partial(reload_policies, policies, log), log.checkpoint)


def tls(settings: Settings) -> ssl.SSLContext | None:
    """Load certificate and key; None for plain HTTP, which the settings allow on loopback only."""
    server = settings.server
    if server.tls_certificate is None or server.tls_private_key is None:
        return None
    return tls_context(server.tls_certificate, server.tls_private_key, server.client_ca)
