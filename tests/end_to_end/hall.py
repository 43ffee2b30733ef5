"""An office with a console, and how people sign in to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from aiohttp import ClientSession, CookieJar, TCPConnector

from tests.end_to_end.office import Office
from tests.end_to_end.places import LINUX, Place, a_place, eventually
from tests.real.browser_pages import Window

POLICY = """\
@id("look") permit(principal, action in [Action::"list", Action::"readAudit"], resource)
when { !(principal in Group::"corp/strangers") };
@id("dev") permit(principal in Group::"corp/dev", action == Action::"ssh", resource)
when { resource.hasTag("env") && resource.getTag("env") == "dev" };
@id("approved") permit(principal in Group::"corp/dev", action == Action::"ssh", resource)
when { context.approvals >= 1 };
@id("glass") permit(principal in Group::"corp/dev", action == Action::"ssh", resource)
when { context.break_glass };
@id("leads") permit(principal in Group::"corp/leads", action == Action::"approve", resource);
"""


@dataclass
class Hall:
    """An office, and how people sign in to its console."""

    office: Office

    @property
    def url(self) -> str:
        return self.office.service.url

    async def link(self, *groups: str, person: str = "corp/lead") -> str:
        """Make a one-time link that the service knows by now."""
        options = [word for group in groups for word in ("--group", group)]
        before = len(await self.office.events("console.link_made"))
        made = await self.office.place.broker("console-link", "--as", person, *options, "--url", self.url)
        assert made.code == 0, made.err

        async def is_known() -> bool:
            return len(await self.office.events("console.link_made")) > before

        await eventually(is_known)
        return made.out.strip()

    async def sign_in(self, seen: Window, *groups: str) -> None:
        """Sign in as a person does."""
        await seen.page.goto(await self.link(*groups))
        await seen.page.click("main button")
        await seen.page.wait_for_url(f"{self.url}/console")

    async def enter(self, visitor: ClientSession, *groups: str, person: str = "corp/lead") -> str:
        """Sign in without a screen; answer the token that forms have to bring."""
        form = {"link": secret_of(await self.link(*groups, person=person))}
        assert await post(visitor, f"{self.url}/console/sign-in", form) == 303
        async with visitor.get(f"{self.url}/console/answers") as page:
            return (await page.text()).partition('name="form_token" value="')[2].partition('"')[0]

    def visitor(self) -> ClientSession:
        """Open a browser without a screen, which keeps its cookies."""
        return ClientSession(
            connector=TCPConnector(ssl=self.office.place.client_context()), cookie_jar=CookieJar(unsafe=True)
        )


@asynccontextmanager
async def a_console_place(folder: Path) -> AsyncIterator[Place]:
    """Lay out an office whose policies let everybody but strangers read the log."""
    await asyncio.to_thread(folder.mkdir)
    instances = [
        {**LINUX, "name": "web-1", "tags": {"env": "dev"}},
        {**LINUX, "name": "db-1", "tags": {"env": "prod"}},
    ]
    async with a_place(folder, instances) as place:
        (folder / "policies" / "all.cedar").write_text(POLICY)
        place.environment["BROKER__LIMITS__PER_CALLER_PER_MINUTE"] = "1000"
        yield place


@asynccontextmanager
async def a_hall(folder: Path) -> AsyncIterator[Hall]:
    """Serve there."""
    async with a_console_place(folder) as place, place.serving() as service:
        yield Hall(Office(place, service))


def secret_of(link: str) -> str:
    return parse_qs(urlsplit(link).query)["link"][0]


async def post(session: ClientSession, url: str, data: dict[str, str], **headers: str) -> int:
    async with session.post(url, data=data, headers=headers, allow_redirects=False) as answer:
        return answer.status


async def status_of(session: ClientSession, url: str) -> tuple[int, str]:
    async with session.get(url, allow_redirects=False) as answer:
        return answer.status, answer.headers.get("Location", "")
