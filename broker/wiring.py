"""The composition root: a list of what is opened, in which order, with what. No logic.

The only place, beside `cli`, that knows the settings. What is opened first is closed last, so that the log is there
from the first event to the last.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from broker import __version__
from broker.audit.anchors.anchoring import Anchors
from broker.audit.anchors.continuity import History
from broker.audit.anchors.cosignatures import WitnessKey
from broker.audit.anchors.file import FileAnchor
from broker.audit.anchors.following import Report
from broker.audit.anchors.places import Anchor, Kept, Place
from broker.audit.anchors.syslog import SyslogAnchor
from broker.audit.anchors.witness import WitnessAnchor
from broker.audit.checkpoints import CheckpointError, Signer
from broker.audit.indexing import Indexer
from broker.audit.keyfiles import derived_key, load_signer
from broker.audit.log import AuditLog
from broker.audit.operators import operator_log as open_for_operator
from broker.audit.pins import Pins
from broker.audit.review import Review
from broker.audit.spool import Append, Spool
from broker.audit.stores import Store, StoreError, opening
from broker.audit.stores.address import sqlite_path
from broker.audit.views import Views
from broker.authorization.policies import Policies
from broker.delivery.credentials import credential
from broker.errors import AuditUnavailable
from broker.housekeeping import (
    collecting,
    ended,
    record_expiry,
    record_failures,
    record_policies,
    reload_policies,
    report_anchor,
    report_texts,
    watch_keys,
    watch_policies,
)
from broker.identity.authenticator import Authenticator
from broker.identity.issuers import Issuer
from broker.identity.keysets import KeyRing
from broker.identity.nonces import Nonces
from broker.identity.provider_login import BadClientSecret, Client, ProviderLogin, load_client_secret
from broker.identity.replays import MOST_OF_ONE, ReplayCache, ReplaysInMemory
from broker.identity.sessions import Sessions
from broker.issuing.approvals import ApprovalDesk
from broker.issuing.break_glass import GlassDesk
from broker.issuing.budgets import Budgets, Limits
from broker.issuing.desk import CredentialDesk
from broker.issuing.locks import LockDesk
from broker.lightsail.gateway import Gateway
from broker.lightsail.inventory import Inventory
from broker.lightsail.key_service import key_service
from broker.lightsail.object_store import Bucket, object_store
from broker.lightsail.session import Account
from broker.model import Clock, Health, Measure, utc_now
from broker.notification import Outbox, notifying
from broker.notification.deliveries import Deliveries
from broker.observability import Metrics, Watchdog, lines_lost
from broker.outbound.notices import Burst, Selection
from broker.outbound.webhooks import BadSecret, Receiver, load_secret
from broker.outbound.witnesses import connected
from broker.settings import Settings, SettingsError, zone
from broker.settings.sections import Anchor as AnchorSettings
from broker.settings.sections import Issuer as IssuerSettings
from broker.unsealing.custody import Custody
from broker.unsealing.masterkeys import MasterKey, kms_region, load_master_key
from broker.unsealing.vault import Vault
from broker.web import openapi, whoami
from broker.web.app import Edge
from broker.web.audit import Audit
from broker.web.break_glass import BreakGlass
from broker.web.certificate import Certificate
from broker.web.connections import Listening, Room, fitting
from broker.web.console.pages import Console, Rooms
from broker.web.credentials import Credentials
from broker.web.doors import Admission, Doors
from broker.web.health import Description, TrustedIssuer
from broker.web.hosts import Hosts
from broker.web.instances import Instances
from broker.web.leases import Leases
from broker.web.locks import Locks
from broker.web.public_urls import LOOPBACK, PublicUrls, names_of
from broker.web.rates import Buckets, Rate, RateLimit, SharedRateLimit
from broker.web.requests import Requests
from broker.web.routes import AnyRoute
from broker.web.server import Listener, bind

if TYPE_CHECKING:
    from broker.observability.tracing import Tracing


def store(settings: Settings) -> Store:
    """Answer where the audit log is kept, for writing.

    Raises:
        AuditUnavailable: what its database needs is not installed.
    """
    try:
        return opening.store(settings.audit.database)
    except StoreError as problem:
        raise AuditUnavailable(str(problem)) from problem


def address(settings: Settings) -> Listening:
    """Take the address to serve on, without listening yet."""
    return bind(settings.server.host, settings.server.port)


def share(limit: int, settings: Settings) -> int:
    """Answer what of a limit one process may use up: each counts for itself, and together they keep to it."""
    return max(1, limit // settings.server.workers)


def budget_limits(settings: Settings) -> Limits:
    """Answer how much one caller is issued."""
    limits = settings.limits
    return Limits(
        issues_per_minute=limits.issues_per_caller_per_minute, instances_per_hour=limits.instances_per_caller_per_hour
    )


def judge(settings: Settings) -> Policies:
    """Answer the policies, not yet loaded."""
    strong = {issuer.name: issuer.mfa_acr for issuer in settings.issuers}
    return Policies(settings.policies.directory, strong, zone(settings.policies.time_zone))


def signing_key(settings: Settings) -> Path:
    """Answer the file of the log's signing key."""
    return Path(settings.audit.signing_key.removeprefix("file:"))


def signer(settings: Settings) -> Signer:
    """Load the log's signing key."""
    return load_signer(signing_key(settings), settings.audit.origin)


def issuers(settings: Settings) -> list[Issuer]:
    """Answer who may vouch for a caller."""
    return [_issuer(issuer) for issuer in settings.issuers]


def _issuer(issuer: IssuerSettings) -> Issuer:
    """Leave out what only the command line needs."""
    known = {name: value for name, value in issuer if not name.startswith("cli_")}
    return Issuer(**known | {"jwks_uri": issuer.jwks_uri or ""})


def trusted_issuers(settings: Settings) -> list[TrustedIssuer]:
    """Answer what clients are told about who may vouch for them."""
    told = [field.name for field in fields(TrustedIssuer)]
    return [TrustedIssuer(**{name: getattr(issuer, name) for name in told}) for issuer in settings.issuers]


@asynccontextmanager
async def front_door(settings: Settings, clock: Clock) -> AsyncIterator[tuple[Authenticator, Rate]]:
    """Open what tells who calls, and how often."""
    trusted = issuers(settings)
    nonces = Nonces(derived_key(signing_key(settings), "DPoP nonces"), clock)
    async with remembered(settings, clock) as (spent, rate):
        authenticator = Authenticator(trusted, KeyRing(trusted), clock, nonces, spent)
        await authenticator.start()
        try:
            yield authenticator, rate
        finally:
            await authenticator.close()


@asynccontextmanager
async def remembered(settings: Settings, clock: Clock) -> AsyncIterator[tuple[ReplayCache, Rate]]:
    """Open what remembers used proofs and requests: the database where several brokers share one, else this process."""
    per_minute = settings.limits.per_caller_per_minute
    if database_file(settings):
        yield ReplaysInMemory(clock), RateLimit(share(per_minute, settings))
        return
    async with opening.shared(settings.audit.database, MOST_OF_ONE) as shared:
        yield shared.replays, SharedRateLimit(per_minute, shared.rates)


def accounts(settings: Settings) -> list[Account]:
    """Answer where instances live."""
    return [Account(**dict(account)) for account in settings.accounts]


def receivers(settings: Settings) -> list[Receiver]:
    """Answer who is told of what happens, each with the secret that signs.

    Raises:
        SettingsError: a secret is missing, open to others or none; names every one.
    """
    found, problems = [], []
    load = cache(load_secret)  # several may share one, which is read once
    for index, webhook in enumerate(settings.notify.webhooks):
        try:
            secret = load(webhook.secret)
        except BadSecret as problem:
            problems.append(f"notify.webhooks.{index}.secret: {problem}")
        else:
            selection = Selection(webhook.events, webhook.tags)
            found.append(Receiver(webhook.name, webhook.url, secret, selection, webhook.allow_private))
    if problems:
        raise SettingsError(problems)
    return found


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
    log = await AuditLog.open(store(settings), signer(settings), clock=clock, version=__version__)
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def anchors(
    settings: Settings, review: Review, clock: Clock = utc_now, report: Report = report_anchor
) -> AsyncIterator[Anchors]:
    """Open the way to every anchor."""
    async with AsyncExitStack() as stack:
        places = [
            Place(each.name, await stack.enter_async_context(_anchor(each, settings, clock)), each.required)
            for each in settings.audit.anchors
        ]
        yield Anchors(places, History(review, signer(settings).verifier), clock, report)


@asynccontextmanager
async def _anchor(anchor: AnchorSettings, settings: Settings, clock: Clock) -> AsyncIterator[Anchor]:
    """Open the way to one anchor."""
    match anchor:
        case AnchorSettings(kind="file", path=Path() as path):
            yield Kept(FileAnchor(path, database_file(settings)))
        case AnchorSettings(kind="s3", region=str(region)):
            names = ("prefix", "retention", "role_arn", "external_id", "endpoint_url")
            more = {name: getattr(anchor, name) for name in names}
            async with object_store(Bucket(name=anchor.bucket, region=region, **more), clock) as store:
                yield Kept(store)
        case AnchorSettings(kind="syslog", address=str(address)):
            yield Kept(SyslogAnchor(address, clock))
        case AnchorSettings(kind="witness", url=str(url), key=str(key), path=Path() as path):
            async with connected(url, allow_private=anchor.allow_private) as ask:
                cosigned = _witness_key(anchor.name, key).time_on
                yield WitnessAnchor(ask, cosigned, FileAnchor(path, database_file(settings)), clock)
        case _:
            raise SettingsError([f"audit.anchors: {anchor.name} is not complete"])


async def sealed(log: AuditLog, anchored: Anchors, *readers: Review | Views) -> None:
    """End the log and bring its last checkpoint to the anchors; nobody reads it when SQLite tidies up at its close."""
    await log.end()
    await anchored.finish()
    for reader in readers:
        await reader.rest()


def _witness_key(name: str, text: str) -> WitnessKey:
    try:
        return WitnessKey.parse(text)
    except CheckpointError as problem:
        raise SettingsError([f"audit.anchors: {name}: key: {problem}"]) from problem


def database_file(settings: Settings) -> Path | None:
    """Answer the file of the audit log; None when it is not in a file."""
    return sqlite_path(settings.audit.database)


@asynccontextmanager
async def exclusive_log(
    settings: Settings, key: Signer | None = None, clock: Clock = utc_now
) -> AsyncIterator[AuditLog]:
    """Open the log for an operator's work on the log itself; with SQLite, no service may have it meanwhile."""
    log = await AuditLog.open(
        store(settings), key or signer(settings), clock=clock, version=__version__, announce=False
    )
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def operator_log(
    settings: Settings, say: Callable[[str], object], clock: Clock = utc_now
) -> AsyncIterator[Append]:
    """Answer how an operator's command records what it does, whether or not the service runs; `say` tells people."""
    file = database_file(settings)
    spool = Spool(file, clock) if file else None
    async with open_for_operator(store(settings), signer(settings), spool, say=say, clock=clock) as append:
        yield append


class Measured(Protocol):
    """Has numbers for operators."""

    def measures(self) -> Iterable[Measure]:
        """Answer how it is now."""
        ...


@dataclass(frozen=True, slots=True)
class Service:
    """A running service.

    `reload` takes policies and certificate in as they are now; `checkpoint` seals the log now; `leave` says that it is
    about to stop: it goes on to serve, but is not ready any more.
    """

    url: str
    listener: Listener
    reload: Callable[[], Awaitable[None]]
    checkpoint: Callable[[], Awaitable[str]]
    leave: Callable[[], None]


@asynccontextmanager
async def service(settings: Settings, clock: Clock = utc_now, bound: Listening | None = None) -> AsyncIterator[Service]:
    """Run the service until the context ends; `bound` is an address that several processes share."""
    # First all that a mistake in settings, files or keys can stop: a start that fails leaves no event.
    secured, named = tls(settings), public_urls(settings)
    told = receivers(settings)
    policies = judge(settings)
    snapshot = await asyncio.to_thread(policies.load)
    async with AsyncExitStack() as stack:
        bound = stack.enter_context(bound or address(settings))
        master = await stack.enter_async_context(master_key(settings))
        custody = await Custody.open(settings.keys.directory, master, clock)
        vault = Vault(custody, clock)
        stack.callback(vault.close)

        review = Review(lambda: opening.reader(settings.audit.database))
        stack.push_async_callback(review.close)
        nearby = database_file(settings) is not None
        views = Views(lambda: opening.reader(settings.audit.database), nearby=nearby)
        stack.push_async_callback(views.close)
        anchored = await stack.enter_async_context(anchors(settings, review, clock))
        if settings.audit.anchors:
            await anchored.check()
        log = await stack.enter_async_context(audit_log(settings, clock))
        stack.push_async_callback(sealed, log, anchored, review, views)
        if file := database_file(settings):
            await stack.enter_async_context(collecting(Spool(file, clock), log))

        outbox = Outbox(
            origin=settings.audit.origin,
            log=log,
            events=review,
            healths=[log.health, anchored.health],
            burst=Burst(settings.notify.denied_burst, settings.notify.denied_burst_within),
        )
        webhooks = await stack.enter_async_context(notifying(told, outbox, clock))
        await record_policies(log, snapshot)

        authenticator, rate = await stack.enter_async_context(front_door(settings, clock))

        gateway = await stack.enter_async_context(Gateway(accounts(settings), clock=clock))
        inventory = Inventory(gateway, clock)
        inventory.start()
        stack.push_async_callback(inventory.close)

        agreed = await agreements(settings, inventory, policies, log, views, clock)
        desk = CredentialDesk(
            approvals=agreed.approvals,
            glass=agreed.glass,
            locks=agreed.locks,
            budgets=Budgets(budget_limits(settings), views, log, clock, shared=database_file(settings) is None),
            inventory=inventory,
            policies=policies,
            gateway=gateway,
            vault=vault,
            ledger=log,
            host_keys=Pins(views, log) if nearby else views,
            delivery=credential,
            clock=clock,
        )
        watchdog = await stack.enter_async_context(Watchdog().watching())
        sessions = console_sessions(settings, log, views, clock)
        doors = doors_of(settings, authenticator, rate, agreed.locks, sessions, watchdog)
        traces = [await stack.enter_async_context(each) for each in traced(settings, clock)]
        metrics = numbers(
            log, *traces, anchored, policies, authenticator, gateway, inventory, watchdog, doors.admission, *secured
        )
        components: list[Callable[[], Health]] = [
            watchdog.health,
            log.health,
            anchored.health,
            policies.health,
            authenticator.health,
            inventory.health,
            vault.health,
            webhooks,
            *(each.health for each in secured),
        ]
        audit = Audit(review, log, policies, account_names(settings), clock)
        rooms = Rooms(
            audit=audit,
            review=review,
            views=views,
            policies=policies,
            locks=agreed.locks,
            approvals=agreed.approvals,
            glass=agreed.glass,
            healths=components,
            verifier=str(signer(settings).verifier),
            login=await stack.enter_async_context(provider_login(settings, authenticator, clock)),
        )
        console = Console(sessions, rooms, clock)
        routes: list[AnyRoute[Any, Any]] = [
            *Credentials(desk).routes(),
            *Instances(inventory, policies, clock).routes(),
            *Leases(views, log, policies, account_names(settings), clock).routes(),
            *Requests(agreed.approvals, Deliveries(told, views.followers), clock).routes(),
            *BreakGlass(agreed.glass).routes(),
            *Locks(agreed.locks, clock).routes(),
            *Hosts(views, log, inventory, policies, account_names(settings), clock).routes(),
            *audit.routes(),
            *whoami.routes(),
            *console.routes(),
            *Description(
                components,
                metrics,
                trusted_issuers(settings),
                lambda: openapi.document(routes),
                client_certificates=settings.server.client_ca is not None,
            ).routes(),
        ]
        edge = Edge(doors, metrics, proxies(settings), public_urls=named, error_page=console.error, told=traces)
        listener = Listener(edge.application(routes), bound, secured[0].context if secured else None, room(settings))

        go_on(
            stack,
            watch_policies(policies, log),
            watch_keys(custody),
            record_failures(authenticator, log),
            *(each.watch() for each in secured),
            *agreed.chores(),
            *indexing(settings),
            *anchored.chores(log, log.condemn),
        )
        url = await listener.start()
        stack.push_async_callback(_close, console, listener)
        watchdog.ready()
        yield Service(url, listener, partial(_reload, policies, log, secured), log.checkpoint, watchdog.leave)


def doors_of(
    settings: Settings,
    authenticator: Authenticator,
    rate: Rate,
    locks: LockDesk,
    sessions: Sessions,
    watchdog: Watchdog,
) -> Doors:
    """Make the doors, as wide as the settings say, and as the event loop allows."""
    admission = Admission(share(settings.limits.concurrent_requests, settings))
    watchdog.tell(admission.heed)
    failures = settings.limits.failures_per_peer_per_minute
    strangers = Buckets(share(failures, settings)) if failures else None
    return Doors(authenticator, rate, locks, admission, sessions, strangers)


def go_on(stack: AsyncExitStack, *chores: Coroutine[Any, Any, None]) -> None:
    """Do these until the service ends."""
    for chore in chores:
        stack.push_async_callback(ended, asyncio.create_task(chore))


def traced(settings: Settings, clock: Clock) -> Iterator[AbstractAsyncContextManager[Tracing]]:
    """Answer what sends traces, if that is wanted.

    Raises:
        SettingsError: what it needs is not installed.
    """
    if not settings.traces.endpoint:
        return
    try:
        from broker.observability.tracing import tracing  # noqa: PLC0415 - not everybody has OpenTelemetry
    except ImportError:
        needed = "traces.endpoint: it needs OpenTelemetry, pip install 'lightsail-credential-broker[otel]'"
        raise SettingsError([needed]) from None
    yield tracing(settings.traces.endpoint, clock)


def numbers(log: AuditLog, *others: Measured) -> Metrics:
    """Count what is written, and ask everybody else for their numbers when somebody reads the page."""
    metrics = Metrics(__version__)
    metrics.watch(lines_lost, *(each.measures for each in (log, *others)))
    log.tell(metrics.event)
    return metrics


async def _reload(policies: Policies, log: AuditLog, secured: Sequence[Certificate]) -> None:
    """Take in policies and certificate as they are now."""
    await reload_policies(policies, log)
    for certificate in secured:
        await certificate.reload()


async def _close(console: Console, listener: Listener) -> None:
    """Let the pages go that follow the log, or the listener would wait for them."""
    console.end()
    await listener.stop()


@dataclass(frozen=True, slots=True)
class Agreements:
    """What people agree on, beside the policies: requests for access, reviews of break-glass uses, locks."""

    approvals: ApprovalDesk
    glass: GlassDesk
    locks: LockDesk

    def chores(self) -> list[Coroutine[Any, Any, None]]:
        """Answer what keeps them up to date."""
        return [
            self.locks.watch(),
            record_expiry("access requests", self.approvals.expire),
            record_expiry("locks", self.locks.expire),
        ]


async def agreements(
    settings: Settings, inventory: Inventory, policies: Policies, log: AuditLog, views: Views, clock: Clock
) -> Agreements:
    """Open the desks where people agree, with the locks at hand."""
    approvals = ApprovalDesk(inventory=inventory, policies=policies, ledger=log, threads=views, clock=clock)
    glass = GlassDesk(inventory=inventory, policies=policies, ledger=log, threads=views, clock=clock)
    locks = LockDesk(
        inventory=inventory,
        policies=policies,
        ledger=log,
        threads=views,
        issuers={issuer.name: issuer.principal for issuer in settings.issuers},
        accounts=account_names(settings),
        clock=clock,
    )
    await locks.look()
    return Agreements(approvals, glass, locks)


def console_sessions(settings: Settings, log: AuditLog, views: Views, clock: Clock) -> Sessions:
    """Open what knows who is signed in to the console."""
    people = frozenset(issuer.name for issuer in settings.issuers if issuer.principal == "user")
    return Sessions(derived_key(signing_key(settings), "console sessions"), log, views, people, clock)


@asynccontextmanager
async def provider_login(
    settings: Settings, authenticator: Authenticator, clock: Clock
) -> AsyncIterator[ProviderLogin | None]:
    """Open the way by which people sign in to the console; None when the settings name no provider.

    Raises:
        SettingsError: the secret of its client is missing or open to others.
    """
    console = settings.console
    chosen = next((each for each in settings.issuers if each.name == console.issuer), None)
    if chosen is None:
        yield None
        return
    try:
        secret = load_client_secret(console.client_secret)
    except BadClientSecret as problem:
        raise SettingsError([f"console.client_secret: {problem}"]) from None
    client = Client(
        issuer=_issuer(chosen),
        client_id=console.client_id,
        client_secret=secret,
        scopes=chosen.cli_scopes,
        resource=chosen.cli_resource,
    )
    key = derived_key(signing_key(settings), "console logins")
    login = ProviderLogin(client, key, authenticator.keys, authenticator, clock)
    try:
        yield login
    finally:
        await login.close()


def account_names(settings: Settings) -> frozenset[str]:
    """Answer the names of the accounts."""
    return frozenset(account.name for account in settings.accounts)


def proxies(settings: Settings) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Answer whose word about the source of a request is taken."""
    return [ipaddress.ip_network(network) for network in settings.server.trusted_proxies]


def room(settings: Settings) -> Room:
    """Answer how many connections one process has at once."""
    limits = settings.limits
    return Room(fitting(limits.connections), limits.connections_per_peer, proxies(settings))


def indexing(settings: Settings) -> Iterator[Coroutine[Any, Any, None]]:
    """Answer what keeps the index of words; PostgreSQL keeps its own."""
    if file := database_file(settings):
        yield Indexer(file, report_texts).run()


def public_urls(settings: Settings) -> PublicUrls:
    """Answer under which addresses callers know the service."""
    server = settings.server
    if server.tls_certificate is None:
        return PublicUrls(server.public_urls, (*LOOPBACK, server.host))
    return PublicUrls(server.public_urls, names_of(server.tls_certificate), "https")


def tls(settings: Settings) -> Sequence[Certificate]:
    """Load certificate and key; none for plain HTTP, which the settings allow on loopback only."""
    server = settings.server
    if server.tls_certificate is None or server.tls_private_key is None:
        return ()
    return (Certificate(server.tls_certificate, server.tls_private_key, server.client_ca),)
