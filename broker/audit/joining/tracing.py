"""Who was it: joins logins at a server to the credentials that were issued (pure).

Held are the issues of the certificates that were seen, not all that the log has.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from broker.audit.events import decode
from broker.audit.joining.sshd import Certificate, Login
from broker.audit.leaves import milliseconds, search_columns
from broker.audit.stores import Filters, Found

MARGIN: Final = 2 * 86_400_000
"""How far from its login an issue is looked for, in milliseconds: a certificate lives a day at most, clocks differ."""


class Verdict(StrEnum):
    """What a login was. The worst comes first; all but the last are findings."""

    UNKNOWN = "not issued by the broker"
    WITHHELD = "never handed over"
    ELSEWHERE = "other instance"
    EXPIRED = "after expiry"
    EARLY = "before issue"
    ISSUED = "issued"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One `credential.issued`. Times are milliseconds since 1970."""

    index: int
    time: int
    expires_at: int | None
    actor: str
    instance: str
    protocol: str
    reason: str
    ticket: str
    address: str
    request_id: str
    lease_id: str


class Trace(NamedTuple):
    """A login, what it was, and the issue that it came from."""

    login: Login
    verdict: Verdict
    issue: Issue | None
    notes: tuple[str, ...]


class Issues:
    """The issues of some certificates, and the names of all instances that credentials were issued for."""

    def __init__(self, wanted: Collection[Certificate]) -> None:
        self._by_certificate: dict[Certificate, list[Issue]] = {certificate: [] for certificate in wanted}
        self._withheld: set[str] = set()
        self.names: set[str] = set()

    @property
    def wanted(self) -> Collection[Certificate]:
        """Of which certificates issues are kept."""
        return self._by_certificate.keys()

    def take(self, issued: Iterable[Found], withheld: Iterable[Found] = ()) -> None:
        """Keep what is wanted; raises ValueError for an event that cannot be read."""
        for found in issued:
            self._keep(found)
        self._withheld.update(_text(decode(found.record.leaf), "lease_id") for found in withheld)

    def of(self, certificate: Certificate, time: int | None, skew: int) -> Issue | None:
        """Answer the newest issue of a certificate that is not after a login, or else the first after it."""
        issues = sorted(self._by_certificate.get(certificate, ()), key=lambda issue: (issue.time, issue.index))
        before = [issue for issue in issues if time is None or issue.time <= time + skew]
        return before[-1] if before else next(iter(issues), None)

    def was_withheld(self, issue: Issue) -> bool:
        """Tell whether a credential was refused to its caller after all."""
        return bool(issue.lease_id) and issue.lease_id in self._withheld

    def _keep(self, found: Found) -> None:
        members = decode(found.record.leaf)
        self.names.add(_text(_table(members, "instance"), "name"))
        facts = _table(members, "credential")
        certificate = Certificate(
            _text(facts, "certificate_serial"), _text(facts, "key_id"), _text(facts, "public_key_sha256").rstrip("=")
        )
        if certificate not in self._by_certificate:
            return
        columns = search_columns(members)
        end = _text(members, "expires_at")
        self._by_certificate[certificate].append(
            Issue(
                index=found.record.idx,
                time=found.time,
                expires_at=milliseconds(end) if end else None,
                actor=columns.actor,
                instance=columns.instance,
                protocol=_text(members, "protocol"),
                reason=_text(members, "reason"),
                ticket=_text(members, "ticket"),
                address=_text(_table(members, "source"), "ip"),
                request_id=columns.request_id,
                lease_id=_text(members, "lease_id"),
            )
        )


def window(logins: Iterable[Login]) -> Filters:
    """Answer where issues are looked for: around the logins; everywhere when one of them has no time."""
    times = [login.time for login in logins]
    known = [time for time in times if time is not None]
    if len(known) < len(times) or not known:
        return Filters(event="credential.issued")
    return Filters(event="credential.issued", since=min(known) - MARGIN, until=max(known) + MARGIN)


def judge(login: Login, issues: Issues, *, instance: str = "", skew: int) -> Trace:
    """Say what a login was.

    Args:
        login: of the log.
        issues: that were found for its certificate, among others.
        instance: of which the log is, as `account/region/name` or the name alone; empty when only the host tells.
        skew: how far clocks may be apart, in milliseconds.
    """
    issue = issues.of(login.certificate, login.time, skew) if login.certificate else None
    if issue is None:
        return Trace(login, Verdict.UNKNOWN, None, (login.remark,) if login.remark else ())
    faults = _faults(login, issue, skew)
    if issues.was_withheld(issue):
        faults.append(Verdict.WITHHELD)
    if _is_elsewhere(login, issue, instance, issues.names):
        faults.append(Verdict.ELSEWHERE)
    first, *others = [verdict for verdict in Verdict if verdict in faults] or [Verdict.ISSUED]
    return Trace(login, first, issue, (*map(str, others), *_notes(login, issue)))


def _faults(login: Login, issue: Issue, skew: int) -> list[Verdict]:
    if login.time is None:
        return []
    late = issue.expires_at is not None and login.time > issue.expires_at + skew
    early = login.time < issue.time - skew
    return [Verdict.EXPIRED] * late + [Verdict.EARLY] * early


def _is_elsewhere(login: Login, issue: Issue, instance: str, names: AbstractSet[str]) -> bool:
    """Tell by the instance that is named; else by a host whose name is that of another instance."""
    name = issue.instance.rpartition("/")[2]
    if instance:
        return instance not in {issue.instance, name}
    host = login.host.partition(".")[0]
    return name not in {login.host, host} and not names.isdisjoint({login.host, host})


def _notes(login: Login, issue: Issue) -> list[str]:
    notes = ["this log has no times: neither issue nor expiry could be compared"] if login.time is None else []
    if issue.address and login.address and not _is_same_address(login.address, issue.address):
        notes.append(f"asked for from {issue.address}")
    return notes


def _is_same_address(one: str, other: str) -> bool:
    return one == other or _address(one) == _address(other)


def _address(text: str) -> str:
    """Write an address in its one form; an IPv4 one that came through IPv6 as IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _table(members: dict[str, object], name: str) -> dict[str, object]:
    member = members.get(name)
    return member if isinstance(member, dict) else {}


def _text(members: dict[str, object], name: str) -> str:
    member = members.get(name)
    return member if isinstance(member, str) else ""
