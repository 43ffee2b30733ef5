"""What people agree on, beside the policies: requests for access, reviews of break-glass uses, locks."""

from __future__ import annotations

from urllib.parse import quote

from broker.client.errors import Unreachable
from broker.client.names import parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from broker.client.documents import LockDocument, RequestDocument, UseDocument
    from broker.client.http import Connection


class Agreements:
    """The part of the service where people decide about each other. Every method raises a ClientError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def request_access(
        self,
        instance: str,
        *,
        protocol: str | None = None,
        reason: str = "",
        ticket: str = "",
        duration: int = 0,
        starts_at: str = "",
        pending_for: int = 0,
    ) -> RequestDocument:
        """Ask for access that somebody has to approve (`POST /v1/requests`).

        Args:
            instance: a bare name, or `account/region/name`.
            protocol: `ssh` or `rdp`; None for the one of the platform.
            reason: why, for the approvers and the audit log.
            ticket: which one.
            duration: for how many seconds; 0 leaves it to the service.
            starts_at: from when (RFC 3339); at once when empty.
            pending_for: how many seconds it may wait for an answer; 0 leaves it to the service.
        """
        times = {"duration": duration, "starts_at": starts_at, "pending_for": pending_for}
        body = body_of(instance, protocol=protocol, reason=reason, ticket=ticket, **times)
        return self._request("", body)

    def requests(self, show: str = "all") -> Iterator[RequestDocument]:
        """Answer access requests (`GET /v1/requests`): `mine`, `reviewable` by the caller, or `all` of these."""
        return self._pages("/v1/requests", {"show": show})

    def request(self, request: str) -> RequestDocument:
        """Answer one access request by its id (`GET /v1/requests/{id}`)."""
        answer: Any = self._connection.get(f"/v1/requests/{quote(request, safe='')}")
        found: RequestDocument = answer
        return found

    def answer_request(self, request: str, verb: str, *, reason: str = "") -> RequestDocument:
        """Do something to an access request: `approve`, `deny` or `cancel` (`POST /v1/requests/{id}/…`)."""
        return self._request(f"/{quote(request, safe='')}/{quote(verb, safe='')}", {"reason": reason})

    def _request(self, path: str, body: dict[str, object]) -> RequestDocument:
        answer: Any = self._connection.post(f"/v1/requests{path}", body)
        request: RequestDocument = answer
        return request

    def break_glass_uses(self, show: str = "all") -> Iterator[UseDocument]:
        """Answer break-glass uses (`GET /v1/break-glass`): `mine`, `reviewable` by the caller, or `all` of these."""
        return self._pages("/v1/break-glass", {"show": show})

    def review_break_glass(self, use: str, *, reason: str, verdict: str = "justified") -> UseDocument:
        """Sign a break-glass use off, as `justified` or `unjustified` (`POST /v1/break-glass/{id}/review`)."""
        body = {"reason": reason, "verdict": verdict}
        answer: Any = self._connection.post(f"/v1/break-glass/{quote(use, safe='')}/review", body)
        reviewed: UseDocument = answer
        return reviewed

    def locks(self) -> Iterator[LockDocument]:
        """Answer the locks in force that the caller may take off (`GET /v1/locks`)."""
        return self._pages("/v1/locks", {})

    def lock(self, kind: str, target: str, *, message: str, ttl: int = 0) -> LockDocument:
        """Keep somebody or something out (`POST /v1/locks`).

        Args:
            kind: `user`, `workload`, `instance` or `account`.
            target: `issuer/subject`, an instance or an account.
            message: what whoever is kept out is told.
            ttl: for how many seconds; 0: until it is removed.
        """
        body = {"kind": kind, "target": target, "message": message, **({"ttl": ttl} if ttl else {})}
        answer: Any = self._connection.post("/v1/locks", body)
        lock: LockDocument = answer
        return lock

    def remove_lock(self, lock: str, *, reason: str = "") -> LockDocument:
        """Take a lock off (`POST /v1/locks/{id}/remove`)."""
        answer: Any = self._connection.post(f"/v1/locks/{quote(lock, safe='')}/remove", {"reason": reason})
        removed: LockDocument = answer
        return removed

    def _pages(self, path: str, query: Mapping[str, str]) -> Iterator[Any]:
        cursor: object = ""
        while cursor is not None:
            page = self._connection.get(path, {**query, "cursor": str(cursor)} if cursor else query)
            items, following = page.get("items"), page.get("next_cursor")
            if not isinstance(items, list) or following == cursor:
                raise Unreachable("the service answered a listing that cannot be read")
            yield from items
            cursor = following


def body_of(instance: str, **optional: object) -> dict[str, object]:
    """Write what is asked for; what is empty is left out. Raises Misconfigured when it can name no instance."""
    parts(instance)
    return {"instance": instance} | {name: value for name, value in optional.items() if value}
