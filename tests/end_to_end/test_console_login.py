"""Signing in to the console at a real OpenID provider."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from aiohttp import ClientSession, CookieJar, TCPConnector

from tests.end_to_end.places import Place, Running, a_place
from tests.real.browser_pages import chromium, window
from tests.real.oidc_provider import OpenIdProvider

pytestmark = pytest.mark.real("node")
POLICY = '@id("auditors") permit(principal in Group::"corp/auditors", action == Action::"readAudit", resource)\n'
MFA = "when { context.mfa };\n"


@pytest.fixture
def port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found: int = taken.getsockname()[1]
    return found


@pytest.fixture
def provider(port: int) -> Iterator[OpenIdProvider]:
    with OpenIdProvider(console=f"https://127.0.0.1:{port}") as provider:
        yield provider


@dataclass
class Company:
    """A broker whose console signs in at a provider."""

    provider: OpenIdProvider
    place: Place
    service: Running

    def visitor(self) -> ClientSession:
        return ClientSession(connector=TCPConnector(ssl=self.place.client_context()), cookie_jar=CookieJar(unsafe=True))

    async def go(self, visitor: ClientSession, url: str) -> tuple[int, str]:
        """Open a page; answer its status and where it leads."""
        async with visitor.get(url, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location", "")

    async def sent_back(self, visitor: ClientSession, who: str) -> str:
        """Begin a login, log in at the provider, and answer where it sends the browser."""
        _, there = await self.go(visitor, f"{self.service.url}/console/start?next=/console/events")
        assert there.startswith(self.provider.issuer)
        return self.provider.log_in(there, who)


@pytest.fixture
async def company(provider: OpenIdProvider, port: int, tmp_path: Path) -> AsyncIterator[Company]:
    async with a_place(tmp_path, [], issuer=provider.issuer) as place:
        (tmp_path / "policies" / "all.cedar").write_text(POLICY + MFA)
        (tmp_path / "secret").touch(0o600)
        (tmp_path / "secret").write_text("console-secret\n")
        place.environment |= {
            "BROKER__SERVER__LISTEN": f"127.0.0.1:{port}",
            "BROKER__CONSOLE__ISSUER": "corp",
            "BROKER__CONSOLE__CLIENT_ID": "console",
            "BROKER__CONSOLE__CLIENT_SECRET": f"file:{tmp_path / 'secret'}",
        }
        async with place.serving() as service:
            yield Company(provider, place, service)


async def test_an_auditor_signs_in_and_reads(company: Company) -> None:
    async with company.visitor() as carol:
        back = await company.sent_back(carol, "carol+auditors")
        assert await company.go(carol, back) == (303, "/console/events")
        assert (await company.go(carol, f"{company.service.url}/console/events"))[0] == 200
    begun = (await company.place.events("--event", "console.signed_in"))[0]
    assert (begun["actor"]["subject"], begun["actor"]["groups"]) == ("carol+auditors", ["auditors"])
    assert (begun["details"]["via"], begun["details"]["mfa"]) == ("provider", True)


async def test_who_is_no_auditor_signs_in_and_reads_nothing(company: Company) -> None:
    async with company.visitor() as bob:
        assert (await company.go(bob, await company.sent_back(bob, "bob+developers")))[0] == 303
        assert (await company.go(bob, f"{company.service.url}/console/events"))[0] == 403


async def test_an_answer_counts_only_in_the_browser_that_asked_and_once(company: Company) -> None:
    async with company.visitor() as carol, company.visitor() as victim:
        back = await company.sent_back(carol, "carol+auditors")
        assert (await company.go(victim, back))[0] == 401  # who never began a login
        await company.sent_back(victim, "victim+auditors")
        assert (await company.go(victim, back))[0] == 401  # who began another one
        assert (await company.go(carol, back))[0] == 303
        assert (await company.go(carol, back))[0] == 503  # the code was used
        assert (await company.go(victim, f"{company.service.url}/console"))[0] == 303  # to sign in


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"state": "made-up"}, 401),
        ({"code": "made-up"}, 503),
        ({"iss": "https://evil.example"}, 401),
        ({"error": "access_denied"}, 503),
    ],
)
async def test_an_answer_that_was_changed_signs_nobody_in(
    change: dict[str, str], status: int, company: Company
) -> None:
    async with company.visitor() as carol:
        parts = urlsplit(await company.sent_back(carol, "carol+auditors"))
        query = {name: values[0] for name, values in parse_qs(parts.query).items()} | change
        changed = parts._replace(query=urlencode(query)).geturl()
        assert (await company.go(carol, changed))[0] == status
        assert await company.place.events("--event", "console.signed_in") == []


async def test_who_denies_oneself_a_second_factor_sees_nothing(company: Company) -> None:
    async with company.visitor() as carol:
        assert (await company.go(carol, await company.sent_back(carol, "weak+auditors")))[0] == 303
        assert (await company.go(carol, f"{company.service.url}/console"))[0] == 403


@pytest.mark.real("chromium")
async def test_a_browser_goes_there_and_back(company: Company) -> None:
    async with chromium() as browser, window(browser) as seen:
        await seen.page.goto(f"{company.service.url}/console/events?outcome=success")
        await seen.page.click("text=Sign in with corp")
        await seen.page.fill("input[name=login]", "carol+auditors")
        await seen.page.fill("input[name=password]", "any")
        await seen.page.click("button[type=submit]")
        await seen.page.click("button[type=submit]")
        await seen.page.wait_for_url("**/console/events?outcome=success")
        assert "corp/carol+auditors" in await seen.page.inner_text("header")
        await seen.page.click("text=Sign out")
        await seen.page.wait_for_url("**/console/sign-in")
