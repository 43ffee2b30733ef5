"""The entrance of the console: signing in, by the company's provider or a one-time link, and signing out."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from broker import errors
from broker.identity.provider_login import ProviderLogin
from broker.identity.sessions import Session, Sessions
from broker.web.app import CONSOLE, LOGIN, login_cookie, session_cookie
from broker.web.console.rendering import Renderer
from broker.web.console.showing import page, signed_in
from broker.web.routes import Answer, AnyRoute, Input, Nothing, Visit

Place = Annotated[str, Field(max_length=2000)]


class SignInQuery(Input):
    """A one-time link, and where to go then."""

    link: Annotated[str, Field(max_length=100)] = ""
    next: Place = CONSOLE


class StartQuery(Input):
    """Where to go after a login."""

    next: Place = CONSOLE


class CallbackQuery(Input):
    """What the provider sends back: a code, or why there is none (RFC 6749, 4.1.2; RFC 9207)."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    state: Annotated[str, Field(max_length=200)] = ""
    code: Annotated[str, Field(max_length=4000)] = ""
    iss: Annotated[str, Field(max_length=2000)] = ""
    error: Annotated[str, Field(max_length=200)] = ""


class SignInForm(SignInQuery):
    """The same, sent by a button."""


class Entrance:
    """Begins and ends sessions. Without a `login`, one-time links are the only way in."""

    def __init__(self, renderer: Renderer, sessions: Sessions, login: ProviderLogin | None) -> None:
        self._renderer = renderer
        self._sessions = sessions
        self._login = login

    def routes(self) -> list[AnyRoute[Any, Any]]:
        """Answer the routes."""
        sign_in = f"{CONSOLE}/sign-in"
        return [
            page("GET", sign_in, "Offer to sign in", self.offer, query=SignInQuery),
            page("POST", sign_in, "Sign in by a one-time link", self.sign_in, body=SignInForm),
            page("GET", f"{CONSOLE}/start", "Go to the provider", self.start, query=StartQuery),
            page("GET", f"{CONSOLE}/callback", "Come back from the provider", self.come_back, query=CallbackQuery),
            signed_in("POST", f"{CONSOLE}/sign-out", "Sign out", self.sign_out),
        ]

    async def offer(self, visit: Visit[SignInQuery, Nothing]) -> Answer:
        """Show how to sign in. A link does nothing before somebody presses a button: programs look at links too."""
        asked = visit.query
        provider = self._login.provider if self._login else ""
        return self._renderer.page(
            "sign_in.html", link=asked.link, next=_inside(asked.next), provider=provider, session=None
        )

    async def sign_in(self, visit: Visit[Nothing, SignInForm]) -> Answer:
        """Begin a session, and go where the person wanted to."""
        cookie = await self._sessions.redeem(visit.body.link, visit.source, visit.request_id)
        headers = {"Location": _inside(visit.body.next), "Set-Cookie": session_cookie(cookie)}
        return Answer(status=303, headers={**headers, "Cache-Control": "no-store"})

    async def start(self, visit: Visit[StartQuery, Nothing]) -> Answer:
        """Send somebody to the provider."""
        if self._login is None:
            raise errors.NotFound
        where, begun = await self._login.begin(_callback(visit), _inside(visit.query.next))
        headers = {"Location": where, "Set-Cookie": login_cookie(begun), "Cache-Control": "no-store"}
        return Answer(status=303, headers=headers)

    async def come_back(self, visit: Visit[CallbackQuery, Nothing]) -> Answer:
        """Begin a session for whom the provider vouches."""
        asked = visit.query
        if self._login is None:
            raise errors.NotFound
        if asked.error:
            raise errors.ProviderUnavailable(asked.error, detail="The provider did not log you in.")
        begun = visit.cookies.get(LOGIN, "")
        caller, then = await self._login.end(begun, asked.state, asked.code, asked.iss, _callback(visit))
        cookie = await self._sessions.begin(caller, visit.source, visit.request_id, via="provider")
        headers = {"Location": _inside(then), "Set-Cookie": session_cookie(cookie), "Cache-Control": "no-store"}
        return Answer(status=303, headers=headers)

    async def sign_out(self, visit: Visit[Nothing, Nothing], session: Session) -> Answer:
        """End the session, everywhere."""
        await self._sessions.end(session, visit.source, visit.request_id)
        headers = {"Location": f"{CONSOLE}/sign-in", "Set-Cookie": session_cookie(None)}
        return Answer(status=303, headers={**headers, "Cache-Control": "no-store", "Clear-Site-Data": '"cache"'})


def _callback(visit: Visit[Any, Any]) -> str:
    return f"{visit.service}{CONSOLE}/callback"


def _inside(place: str) -> str:
    """Answer a place within the console; anything else is its beginning (no open redirects)."""
    inside = place == CONSOLE or place.startswith((f"{CONSOLE}?", f"{CONSOLE}/"))
    return place if inside and place.isprintable() and place.isascii() and "\\" not in place else CONSOLE
