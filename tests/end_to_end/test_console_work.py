"""Working in the console: following the log, signing off, keeping views, settling; and its pages on two replicas."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientTimeout

from tests.end_to_end.hall import Hall, a_console_place, a_hall, post, status_of
from tests.end_to_end.office import DEV, LEAD, two_replicas
from tests.end_to_end.places import eventually
from tests.real.browser_pages import chromium, window


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[Hall]:
    async with a_hall(tmp_path / "place") as hall:
        yield hall


async def told(stream: ClientResponse) -> tuple[str, Any]:
    """Answer what a stream of events says next: of which kind, and its data; "" and None at its end."""
    kind, data = "message", None
    async for line in stream.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            data = value
        elif not name and not value and data is not None:
            return kind, json.loads(data) if kind == "message" else data
    return "", None


async def test_a_page_that_follows_the_log_is_told_of_what_fits(hall: Hall) -> None:
    async with hall.visitor() as carol:
        token = await hall.enter(carol, "auditors")
        size = len(await hall.office.place.events())
        url = f"{hall.url}/console/tail?after={size - 1}&event=credential.issued&protocol=ssh"
        async with carol.get(url, timeout=ClientTimeout(30)) as stream:
            assert stream.content_type == "text/event-stream"
            await hall.office.ask(DEV, "/v1/credentials", {"instance": "db-1"})  # denied
            await hall.office.ask(DEV, "/v1/credentials", {"instance": "web-1", "reason": "live"})
            kind, row = await told(stream)
            assert (kind, row["who"], row["why"]) == ("message", "corp/dev", "live")
            assert (row["event"], row["where"]) == ("credential.issued", "main/eu-west-1/web-1")
            assert await post(carol, f"{hall.url}/console/sign-out", {"form_token": token}) == 303
            assert await told(stream) == ("over", "over")  # within seconds of the end of the session
            assert await told(stream) == ("", None)
    [noted] = [each for each in await hall.office.events("audit.read") if "live" in each["details"]["filters"]]
    assert "event=credential.issued" in noted["details"]["filters"]


async def test_nobody_follows_what_they_may_not_read_and_only_so_many_follow(hall: Hall) -> None:
    async with hall.visitor() as mallory:
        await hall.enter(mallory, "strangers", person="corp/mallory")
        async with mallory.get(f"{hall.url}/console/tail?after=0") as answer:
            assert answer.status == 403
    async with hall.visitor() as carol:
        await hall.enter(carol, "auditors")
        streams = [await carol.get(f"{hall.url}/console/tail?after=0") for _ in range(17)]
        assert [stream.status for stream in streams] == [200] * 16 + [503]
        assert await hall.office.service.stop() == 0  # at once: it does not wait for who follows
        for stream in streams:
            stream.close()


@pytest.mark.parametrize("time", ["9999-12-31T23:59", "0001-01-01T00:00%2B14:00", "99999999999999", "soon"])
async def test_a_time_around_which_nothing_can_be_drawn_is_refused(hall: Hall, time: str) -> None:
    async with hall.visitor() as carol:
        await hall.enter(carol, "auditors")
        for path in (f"timeline?of=actor&name=corp/dev&until={time}", f"events?since={time}"):
            assert (await status_of(carol, f"{hall.url}/console/{path}"))[0] == 400


async def test_a_selection_is_signed_off_and_an_export_leaves_it_out(hall: Hall) -> None:
    for number in range(5):
        await hall.office.ask(LEAD, "/v1/credentials", {"instance": "db-1", "reason": f"reason {number}"})
    denied = [event["index"] for event in await hall.office.events("credential.denied")]
    async with hall.visitor() as carol:
        token = await hall.enter(carol, "auditors")
        form = [("form_token", token), ("note", "seen"), *(("pick", str(index)) for index in denied[1::2])]
        async with carol.post(f"{hall.url}/console/reviews", data=form, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()
        wrong = {"form_token": token, "note": "seen", "pick": "999999"}
        assert await post(carol, f"{hall.url}/console/reviews", wrong) == 400
        assert await post(carol, f"{hall.url}/console/reviews", {"form_token": token, "note": "seen"}) == 400
        query = "?event=credential.denied&unreviewed=yes"
        async with carol.get(f"{hall.url}/console/events{query}") as answer:
            page = await answer.text()
        assert [f"reason {number}" in page for number in range(5)] == [True, False, True, False, True]
        async with carol.get(f"{hall.url}/console/export{query}&format=jsonl") as answer:
            lines = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert [line["index"] for line in lines] == denied[::2]


async def test_an_event_shows_the_text_of_the_policies_until_they_change(hall: Hall) -> None:
    _, issued = await hall.office.ask(DEV, "/v1/credentials", {"instance": "web-1"})
    url = f"{hall.url}/console/events/{issued['audit']['index']}"
    policies = hall.office.place.folder / "policies" / "all.cedar"
    async with hall.visitor() as carol:
        await hall.enter(carol, "auditors")
        async with carol.get(url) as answer:
            page = await answer.text()
        assert "all.cedar:3" in page
        assert "resource.getTag(&#34;env&#34;) == &#34;dev&#34;" in page
        policies.write_text(policies.read_text() + "// changed\n")

        async def says_so() -> bool:
            async with carol.get(url) as answer:
                return "The policies have changed since; this was decided by dev" in await answer.text()

        await eventually(says_so)


async def test_a_recorded_verification_stands_on_the_overview(hall: Hall) -> None:
    async with hall.visitor() as carol:
        await hall.enter(carol, "auditors")
        async with carol.get(f"{hall.url}/console") as answer:
            assert "Nobody has recorded a verification" in await answer.text()
        verified = await hall.office.place.verify("--record")
        assert verified.code == 0, verified.err

        async def is_recorded() -> bool:
            return bool(await hall.office.events("audit.verified"))

        await eventually(is_recorded)
        [found] = await hall.office.events("audit.verified")
        assert (found["outcome"], found["details"]["size"] > 2) == ("success", True)
        async with carol.get(f"{hall.url}/console") as answer:
            assert "Verified whole at" in await answer.text()
    refused = await hall.office.place.broker("audit", "verify", "--record", "--export", "events.jsonl")
    assert refused.code == 2


@pytest.mark.real("chromium")
async def test_a_browser_follows_the_log_and_keeps_a_view(hall: Hall) -> None:
    async with chromium() as browser, window(browser) as seen:
        await hall.sign_in(seen, "auditors")
        page = seen.page
        await page.goto(f"{hall.url}/console/events?event=credential.issued&limit=100")
        assert await page.is_hidden("#follow")  # nothing was issued yet, so there is no table to follow in
        await hall.office.ask(DEV, "/v1/credentials", {"instance": "web-1", "reason": "before"})
        await page.reload()
        await page.click("text=Follow live")
        await hall.office.ask(DEV, "/v1/credentials", {"instance": "web-1", "reason": "<b>while</b> it follows"})
        await page.wait_for_selector("#follow [role=status]:has-text('1 new')")
        first = page.locator("table.events tbody tr").first
        assert "<b>while</b> it follows" in await first.inner_text()
        assert await first.locator("a").nth(1).get_attribute("href") == "/console/events?actor=corp%2Fdev"
        assert await seen.accessibility_findings() == []
        await page.fill("#keep input", "What was <issued>")
        await page.click("#keep button")
        await page.goto(f"{hall.url}/console/events")
        await page.click("nav.views >> text=What was <issued>")
        assert page.url.endswith("/console/events?event=credential.issued&limit=100")
        await page.click("[aria-label='Forget the view What was <issued>']")
        assert await page.locator("nav.views span").count() == 0
        assert seen.complaints == []


@pytest.mark.real("chromium")
async def test_a_use_of_break_glass_is_settled_in_the_browser(hall: Hall) -> None:
    emergency = {"instance": "db-1", "reason": "it burns", "break_glass": True}
    status, issued = await hall.office.ask(DEV, "/v1/credentials", emergency)
    assert status == 201, issued
    assert (await hall.office.ask(DEV, "/v1/credentials", emergency))[1]["code"] == "review_required"
    async with chromium() as browser, window(browser, scripts=False) as seen:
        await hall.sign_in(seen, "leads")
        await seen.page.click("text=Broken glass to review")
        assert "corp/dev broke the glass for ssh to main/eu-west-1/db-1" in await seen.page.inner_text("main")
        await seen.page.fill("input[name=message]", "it did burn")
        await seen.page.click("text=Sign off")
        await seen.page.wait_for_load_state()
        assert "Nothing waits for your review." in await seen.page.inner_text("main")
    [settled] = await hall.office.events("break_glass.reviewed")
    assert settled["actor"]["subject"] == "lead"
    assert (await hall.office.ask(DEV, "/v1/credentials", emergency))[0] == 201


@pytest.mark.real("postgresql")
async def test_a_session_is_good_at_every_replica_and_over_at_every_replica(tmp_path: Path, postgresql: str) -> None:
    async with a_console_place(tmp_path / "place") as place, two_replicas(place, postgresql) as (one, other):
        here, there = Hall(one), Hall(other)
        async with here.visitor() as carol:
            token = await here.enter(carol, "auditors")
            [cookie] = [each for each in carol.cookie_jar if each.key == "__Host-broker-console"]
            kept = {"Cookie": f"{cookie.key}={cookie.value}"}
            async with there.visitor() as elsewhere:
                async with elsewhere.get(f"{there.url}/console/events", headers=kept) as answer:
                    assert answer.status == 200
                assert await post(carol, f"{here.url}/console/sign-out", {"form_token": token}) == 303
                async with elsewhere.get(f"{there.url}/console", headers=kept, allow_redirects=False) as answer:
                    assert answer.status == 303
