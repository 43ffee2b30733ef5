"""`GET /v1/whoami`: how the service sees whoever asks."""

from __future__ import annotations

from typing import Literal

from broker.model import Caller, rfc3339
from broker.web.routes import Answer, Guarded, Nothing, Output, Visit, guarded_get


class CallerOut(Output):
    """A caller, as policies see them. `issuer` is the short name of the settings; times are RFC 3339."""

    issuer: str
    subject: str
    kind: Literal["user", "workload"]
    groups: list[str]
    email: str | None
    mfa: bool
    bound: bool
    authenticated_at: str | None
    token_expires_at: str
    token_id: str


def routes() -> list[Guarded[Nothing, Nothing]]:
    """Answer the route."""
    return [
        guarded_get("/v1/whoami", "Tell how the service sees the caller", whoami, query=Nothing, answer=CallerOut),
    ]


async def whoami(_: Visit[Nothing, Nothing], caller: Caller) -> Answer:
    """Answer 200 with the caller."""
    return Answer(
        CallerOut(
            issuer=caller.issuer,
            subject=caller.subject,
            kind=caller.kind,
            groups=list(caller.groups),
            email=caller.email,
            mfa=caller.mfa,
            bound=caller.bound,
            authenticated_at=rfc3339(caller.authenticated_at) if caller.authenticated_at else None,
            token_expires_at=rfc3339(caller.token_expires_at),
            token_id=caller.token_id,
        )
    )
