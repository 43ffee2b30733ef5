"""The visitor's side: asks the service for credentials and listings. Standard library only, and quick to import.

with Broker.from_environment(os.environ) as broker:
    credential = broker.credential("web-1", reason="deploy")
"""

from __future__ import annotations

import os
from urllib.parse import quote

from broker.client.access import Access
from broker.client.agreements import Agreements, body_of
from broker.client.errors import BrokerProblem, ClientError, Misconfigured, Unreachable, Untrusted
from broker.client.http import Connection
from broker.client.sealing import SealingKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Self

    from broker.client.asynchronous import AsyncBroker
    from broker.client.documents import (
        AcceptedDocument,
        BlueprintDocument,
        BundleDocument,
        CallerDocument,
        CompletedReceipt,
        CredentialDocument,
        DecisionDocument,
        HostDocument,
        InstanceDocument,
        LeaseItem,
    )

__all__ = [
    "Access",
    "AsyncBroker",
    "Broker",
    "BrokerProblem",
    "ClientError",
    "Misconfigured",
    "Unreachable",
    "Untrusted",
]


def __getattr__(name: str) -> object:
    """Load what is for asyncio only when it is asked for: a command has no use for it (PEP 562)."""
    if name == "AsyncBroker":
        from broker.client.asynchronous import AsyncBroker

        return AsyncBroker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def new_idempotency_key() -> str:
    """Make a key under which one request may be repeated without being granted twice."""
    return os.urandom(16).hex()


class Broker(Agreements):
    """The service, as a caller sees it. Every method raises a ClientError."""

    def __init__(self, access: Access) -> None:
        super().__init__(Connection(access))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Make one from `BROKER_URL`, `BROKER_TOKEN`, … (see `Access.from_environment`)."""
        return cls(Access.from_environment(environment))

    def credential(
        self,
        instance: str,
        *,
        protocol: str | None = None,
        reason: str = "",
        ticket: str = "",
        break_glass: bool = False,
        idempotency_key: str = "",
    ) -> CredentialDocument:
        """Ask for a credential (`POST /v1/credentials`).

        Args:
            instance: a bare name, or `account/region/name`.
            protocol: `ssh` or `rdp`; None for the one of the platform.
            reason: why, for the policies and the audit log.
            ticket: which one, for the policies and the audit log.
            break_glass: use the emergency rules; somebody will review it.
            idempotency_key: repeat an earlier request under its key; a new one is made when empty.

        The service seals the secret to a key of this call alone: nothing in between can read it.
        """
        sealing = SealingKey()
        body = body_of(instance, protocol=protocol, reason=reason, ticket=ticket, break_glass=break_glass)
        body["seal_to"] = sealing.jwk
        answer = self._connection.post("/v1/credentials", body, idempotency_key or new_idempotency_key())
        return _opened(answer, sealing)

    def decision(
        self,
        instance: str,
        *,
        protocol: str | None = None,
        reason: str = "",
        ticket: str = "",
        break_glass: bool = False,
    ) -> DecisionDocument:
        """Ask what the policies would say, and nothing more (`POST /v1/decisions`)."""
        body = body_of(instance, protocol=protocol, reason=reason, ticket=ticket, break_glass=break_glass)
        answer: Any = self._connection.post("/v1/decisions", body)
        decision: DecisionDocument = answer
        return decision

    def whoami(self) -> CallerDocument:
        """Answer how the service sees the caller (`GET /v1/whoami`)."""
        answer: Any = self._connection.get("/v1/whoami")
        caller: CallerDocument = answer
        return caller

    def instances(self) -> Iterator[InstanceDocument]:
        """Answer the instances that the caller may reach (`GET /v1/instances`), page by page."""
        return self._pages("/v1/instances", {})

    def blueprints(self, *, include_inactive: bool = False) -> Iterator[BlueprintDocument]:
        """Answer what instances are made from (`GET /v1/blueprints`)."""
        return self._pages("/v1/blueprints", _inactive(wanted=include_inactive))

    def bundles(self, *, blueprint: str = "", include_inactive: bool = False) -> Iterator[BundleDocument]:
        """Answer the sizes (`GET /v1/bundles`); with a blueprint, only those that can run it."""
        query = {"blueprint": blueprint} if blueprint else {}
        return self._pages("/v1/bundles", query | _inactive(wanted=include_inactive))

    def leases(self, *, instance: str = "", actor: str = "", account: str = "") -> Iterator[LeaseItem]:
        """Answer the credentials that are out now, and that the caller may know of (`GET /v1/leases`)."""
        asked = {"instance": instance, "actor": actor, "account": account}
        return self._pages("/v1/leases", {name: value for name, value in asked.items() if value})

    def receipt(self, index: int) -> CompletedReceipt:
        """Answer what proves that an event is in the log (`GET /v1/audit/receipts/{index}`)."""
        answer: Any = self._connection.get(f"/v1/audit/receipts/{index}")
        if not {"index", "leaf_hash", "checkpoint", "proof"} <= answer.keys():
            raise Unreachable("the service answered without a receipt")
        return answer  # type: ignore[no-any-return]  # its outline was just checked

    def hosts(self) -> Iterator[HostDocument]:
        """Answer the host keys that instances are held to (`GET /v1/hosts`)."""
        return self._pages("/v1/hosts", {})

    def accept_host_keys(self, host: HostDocument, *, reason: str = "", ticket: str = "") -> AcceptedDocument:
        """Accept the keys that a host offers, as they stand in it (`POST /v1/hosts/…/accept`)."""
        place = "/".join(quote(host[part], safe="") for part in ("account", "region", "name"))
        body = {"host_keys": host["offered"], "reason": reason, "ticket": ticket}
        answer: Any = self._connection.post(f"/v1/hosts/{place}/accept", body, new_idempotency_key())
        accepted: AcceptedDocument = answer
        return accepted

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _opened(answer: dict[str, Any], sealing: SealingKey) -> CredentialDocument:
    """Put what was sealed in its place; what comes in the open was perhaps read by others, and is not used."""
    kind = answer.get("protocol")
    if isinstance(answer.get("ssh", answer.get("rdp")), dict):
        raise Untrusted("the credential was not sealed to this client, so others may have read it on its way")
    if kind not in {"ssh", "rdp"} or "sealed" not in answer:
        raise Unreachable("the service answered without a credential")
    opened: Any = {
        kind if name == "sealed" else name: sealing.open(value) if name == "sealed" else value
        for name, value in answer.items()
    }
    credential: CredentialDocument = opened
    return credential


def _inactive(*, wanted: bool) -> dict[str, str]:
    return {"include_inactive": "true"} if wanted else {}
