"""The pages where somebody says a word: requests for access are approved or denied, uses of break-glass reviewed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from broker.identity.sessions import Session
from broker.issuing.answering import Verb
from broker.issuing.approvals import ApprovalDesk
from broker.issuing.break_glass import GlassDesk, Verdict
from broker.model import Caller, Source
from broker.web.app import CONSOLE
from broker.web.console.rendering import Renderer
from broker.web.console.showing import Handler, signed_in
from broker.web.parsing import Line, Words
from broker.web.routes import Answer, AnyRoute, Input, Nothing, Visit

_ANSWERED: Final = Answer(status=303, headers={"Location": f"{CONSOLE}/answers", "Cache-Control": "no-store"})


class AnswerForm(Input):
    """What somebody says to a request."""

    reason: Line = ""


class ReviewForm(Input):
    """What somebody makes of a breaking of the glass."""

    verdict: Verdict
    message: Words


class Answers:
    """What waits for a word, and the word."""

    def __init__(self, renderer: Renderer, approvals: ApprovalDesk, glass: GlassDesk) -> None:
        self._renderer = renderer
        self._approvals = approvals
        self._glass = glass

    def routes(self) -> list[AnyRoute[Any, Any]]:
        """Answer the routes."""
        steps = {"approve": self._approvals.approve, "deny": self._approvals.deny}
        return [
            signed_in("GET", f"{CONSOLE}/answers", "What waits for a word", self.answers),
            *(
                signed_in("POST", f"{CONSOLE}/requests/{{id}}/{name}", f"Say {name}", _does(step), body=AnswerForm)
                for name, step in steps.items()
            ),
            signed_in("POST", f"{CONSOLE}/break-glass/{{id}}/review", "Review a use", self.settle, body=ReviewForm),
        ]

    async def waiting(self, caller: Caller, source: Source) -> Mapping[str, int]:
        """Answer how much waits for this person's word."""
        requests = await self._approvals.reviewable(caller, source)
        uses = await self._glass.reviewable(caller, source)
        return {"requests": len(requests), "uses": len(uses)}

    async def answers(self, visit: Visit[Nothing, Nothing], session: Session) -> Answer:
        """Show the requests and the uses of break-glass that wait for this person's word."""
        return self._renderer.page(
            "answers.html",
            session=session,
            here="answers",
            requests=await self._approvals.reviewable(session.caller, visit.source),
            uses=await self._glass.reviewable(session.caller, visit.source),
            verdicts=list(Verdict),
        )

    async def settle(self, visit: Visit[Nothing, ReviewForm], session: Session) -> Answer:
        """Sign a use of break-glass off."""
        verb = _verb(visit, session, visit.body.message)
        await self._glass.review(visit.path["id"], verb, visit.body.verdict)
        return _ANSWERED


def _does(step: Callable[[str, Verb], Awaitable[object]]) -> Handler:
    async def do(visit: Visit[Nothing, AnswerForm], session: Session) -> Answer:
        await step(visit.path["id"], _verb(visit, session, visit.body.reason))
        return _ANSWERED

    return do


def _verb(visit: Visit[Any, Any], session: Session, reason: str) -> Verb:
    return Verb(caller=session.caller, source=visit.source, request_id=visit.request_id, reason=reason)
