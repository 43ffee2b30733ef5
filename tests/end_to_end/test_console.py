"""The console: who gets in, what they see, and what a real browser makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.end_to_end.hall import Hall, a_hall, post, secret_of, status_of
from tests.end_to_end.office import DEV, LEAD, Office
from tests.real.browser_pages import Window, chromium, window

SIZES = {"a phone": (360, 720), "a desk": (1280, 800), "a wall": (2560, 1440)}


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[Hall]:
    async with a_hall(tmp_path / "place") as hall:
        yield hall


async def test_a_link_signs_in_once_and_a_sign_out_counts_at_once(hall: Hall) -> None:
    link = await hall.link("auditors")
    form = {"link": secret_of(link), "next": "/console/events?event=console.signed_in"}
    async with hall.visitor() as carol, hall.visitor() as thief:
        assert (await status_of(carol, link))[0] == 200  # looking at a link does not use it up
        assert (await status_of(carol, f"{hall.url}/console"))[1] == "/console/sign-in?next=%2Fconsole"
        async with carol.post(f"{hall.url}/console/sign-in", data=form, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, form["next"])
            cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-broker-console=")
        assert cookie.endswith("; Path=/; Secure; HttpOnly; SameSite=Lax")
        assert await post(thief, f"{hall.url}/console/sign-in", form) == 401
        stolen = cookie.partition(";")[0]
        async with carol.get(f"{hall.url}/console") as page:
            token = (await page.text()).partition('name="form_token" value="')[2].partition('"')[0]
        assert await post(carol, f"{hall.url}/console/sign-out", {"form_token": token}) == 303
        async with thief.get(f"{hall.url}/console", headers={"Cookie": stolen}, allow_redirects=False) as after:
            assert after.status == 303
    told = [event["event"] for event in await hall.office.events("console.")]
    assert told == ["console.link_made", "console.link_used", "console.signed_in", "console.signed_out"]
    kept = (hall.office.place.folder / "state" / "audit.db").read_bytes()
    assert secret_of(link).encode() not in kept
    assert cookie.partition("=")[2][:43].encode() not in kept


@pytest.mark.parametrize("elsewhere", ["https://evil.example", "//evil.example/console", "/v1/x", "/console\\@evil"])
async def test_a_sign_in_leads_nowhere_else(elsewhere: str, hall: Hall) -> None:
    form = {"link": secret_of(await hall.link("auditors")), "next": elsewhere}
    url = f"{hall.url}/console/sign-in"
    async with hall.visitor() as carol, carol.post(url, data=form, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/console")


async def test_a_form_of_another_site_is_refused(hall: Hall) -> None:
    form = {"link": secret_of(await hall.link("auditors"))}
    async with hall.visitor() as carol:
        assert await post(carol, f"{hall.url}/console/sign-in", form, Origin="https://evil.example") == 401
        assert await post(carol, f"{hall.url}/console/sign-in", form, **{"Sec-Fetch-Site": "cross-site"}) == 401
        assert await post(carol, f"{hall.url}/console/sign-in", form, Origin=hall.url) == 303
        assert await post(carol, f"{hall.url}/console/sign-out", {"form_token": "made up"}) == 401
        assert await post(carol, f"{hall.url}/console/sign-out", {}) == 401
        assert (await status_of(carol, f"{hall.url}/console"))[0] == 200
    assert await hall.office.service.stop() == 0
    [counted] = await hall.office.events("authentication.failures")
    assert counted["details"]["counts"] == {"foreign_form": 4}


async def test_who_may_not_read_the_log_sees_nothing_of_it(hall: Hall) -> None:
    await hall.office.ask(LEAD, "/v1/credentials", {"instance": "web-1", "reason": "tell-tale"})
    form = {"link": secret_of(await hall.link("strangers", person="corp/mallory"))}
    async with hall.visitor() as mallory:
        assert await post(mallory, f"{hall.url}/console/sign-in", form) == 303
        for path in ("", "/events", "/events/0", "/timeline?of=actor&name=corp/lead", "/export"):
            async with mallory.get(f"{hall.url}/console{path}") as answer:
                text = await answer.text()
                assert answer.status == 403
                assert "tell-tale" not in text
                assert "service.started" not in text


async def test_an_export_is_what_is_shown(hall: Hall) -> None:
    for instance in ("web-1", "db-1", "web-1"):
        await hall.office.ask(LEAD, "/v1/credentials", {"instance": instance})
    async with hall.visitor() as carol:
        await post(carol, f"{hall.url}/console/sign-in", {"link": secret_of(await hall.link("auditors"))})
        query = "?event=credential.issued&instance=main/eu-west-1/web-1&actor=&since="
        async with carol.get(f"{hall.url}/console/events{query}") as answer:
            shown = (await answer.text()).count('<td class="number"><a href="/console/events/')
        async with carol.get(f"{hall.url}/console/export{query}&format=jsonl") as answer:
            assert answer.headers["Content-Disposition"] == 'attachment; filename="events.jsonl"'
            lines = (await answer.text()).splitlines()
    assert len(lines) == 2
    assert shown == len(lines)


@pytest.mark.real("chromium")
async def test_the_pages_are_fit_for_everybody_at_every_size(hall: Hall) -> None:
    for instance in ("web-1", "db-1", "web-1"):
        await hall.office.ask(LEAD, "/v1/credentials", {"instance": instance, "reason": "a <b>bold</b> reason"})
    paths = ["", "/events", "/events/3", "/timeline?of=actor&name=corp/lead", "/answers", "/sign-in", "/events/none"]
    async with chromium() as browser:
        for dark, (width, height) in zip((False, True, False), SIZES.values(), strict=True):
            async with window(browser, width=width, height=height, dark=dark) as seen:
                await hall.sign_in(seen, "auditors")
                for path in paths:
                    await seen.page.goto(f"{hall.url}/console{path}")
                    assert await seen.accessibility_findings() == [], (path, width)
                    spread = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                    assert await seen.page.evaluate(spread) == 0, (path, width)
                assert [each for each in seen.complaints if "404" not in each] == []
                assert seen.hosts == {urlsplit(hall.url).netloc}


FORGED = (
    "localStorage.setItem('checkpoint of test.example/audit', JSON.stringify({size: 2, root: btoa('x'.repeat(32))}))"
)
OTHER_KEY = "document.querySelector('#proof input').value = 'test.example/audit+00000000+AQ' + 'o'.repeat(41) + 'g'"
OTHER_BYTES = """
const proof = document.querySelector("#proof"), evidence = JSON.parse(proof.dataset.evidence);
evidence.leaf = btoa(atob(evidence.leaf).replace("success", "failure"));
proof.dataset.evidence = JSON.stringify(evidence);
"""


async def proved(seen: Window, url: str, before: str = "", after: str = "") -> tuple[str, str]:
    """Open an event, let the browser check it, and answer the outcome and what it said."""
    if before:
        await seen.page.add_init_script(
            f"document.addEventListener('readystatechange', () => {{ {before} }}, {{once: true}})"
        )
    await seen.page.goto(url)
    if after:
        await seen.page.evaluate(after)
    await seen.page.click("#proof button")
    await seen.page.wait_for_selector("#proof[data-outcome]")
    outcome: str = await seen.page.eval_on_selector("#proof", "each => each.dataset.outcome")
    return outcome, await seen.page.inner_text("#proof ol")


@pytest.mark.real("chromium")
async def test_a_browser_proves_by_itself_that_an_event_is_in_the_log(hall: Hall) -> None:
    place = hall.office.place
    await hall.office.ask(LEAD, "/v1/credentials", {"instance": "web-1", "reason": "to be proved"})
    assert await hall.office.service.stop() == 0  # its last checkpoint covers what was said so far
    async with place.serving() as service, chromium() as browser, window(browser) as seen:
        again = Hall(Office(place, service))
        await again.sign_in(seen, "auditors")
        event = f"{again.url}/console/events"
        outcome, said = await proved(seen, f"{event}/2")
        assert (outcome, "had not seen this log before" in said) == ("verified", True), said
        outcome, said = await proved(seen, f"{event}/0")
        assert (outcome, "only grew since this browser saw" in said) == ("verified", True), said
        outcome, said = await proved(seen, f"{event}/0", after=OTHER_KEY)
        assert (outcome, "no signature" in said or "does not hold" in said) == ("refuted", True), said
        outcome, said = await proved(seen, f"{event}/2", after=FORGED)
        assert (outcome, "was rewritten" in said) == ("refuted", True), said
        outcome, said = await proved(seen, f"{event}/2", before=OTHER_BYTES)
        assert (outcome, "another root" in said) == ("refuted", True), said
        assert seen.complaints == []


@pytest.mark.real("chromium")
async def test_a_request_is_approved_in_the_browser(hall: Hall) -> None:
    wanted = {"instance": "db-1", "protocol": "ssh", "reason": "OPS-9"}
    status, made = await hall.office.ask(DEV, "/v1/requests", wanted)
    assert status == 201, made
    async with chromium() as browser, window(browser, scripts=False) as seen:
        await hall.sign_in(seen, "leads")
        await seen.page.click("nav >> text=Answers")
        assert "corp/dev wants ssh to main/eu-west-1/db-1" in await seen.page.inner_text("main")
        await seen.page.fill("input[name=reason]", "go ahead")
        await seen.page.click("text=Approve")
        await seen.page.wait_for_load_state()
        assert "No request waits for you." in await seen.page.inner_text("main")
    status, shown = await hall.office.ask(DEV, f"/v1/requests/{made['id']}")
    assert (status, shown["state"], shown["approvals"][0]["reason"]) == (200, "approved", "go ahead")
    assert (await hall.office.ask(DEV, "/v1/credentials", {"instance": "db-1"}))[0] == 201


async def test_everything_is_there_for_who_has_no_scripts(hall: Hall) -> None:
    await hall.office.ask(LEAD, "/v1/credentials", {"instance": "web-1", "reason": "seen without scripts"})
    async with hall.visitor() as carol:
        await post(carol, f"{hall.url}/console/sign-in", {"link": secret_of(await hall.link("auditors"))})
        for path, words in {
            "": "corp/lead",
            "/events?text=scripts": "seen without scripts",
            "/timeline?of=instance&name=main/eu-west-1/web-1&span=6h": "corp/lead",
        }.items():
            async with carol.get(f"{hall.url}/console{path}") as answer:
                assert words in await answer.text(), path


async def test_what_is_signed_off_is_not_shown_as_open_any_more(hall: Hall) -> None:
    for number in range(6):
        await hall.office.ask(LEAD, "/v1/credentials", {"instance": "db-1", "reason": f"reason {number}"})
    async with hall.visitor() as carol:
        await post(carol, f"{hall.url}/console/sign-in", {"link": secret_of(await hall.link("auditors"))})
        open_ones = f"{hall.url}/console/events?event=credential.denied&unreviewed=yes&limit=2"
        async with carol.get(open_ones) as answer:
            page = await answer.text()
        token = page.partition('name="form_token" value="')[2].partition('"')[0]
        events = await hall.office.events("credential.denied")
        assert [f"reason {number}" in page for number in range(6)] == [False] * 4 + [True] * 2
        form = {"form_token": token, "note": "all fine"}
        marked = {"first": str(events[2]["index"]), "last": str(events[5]["index"])}
        assert await post(carol, f"{hall.url}/console/reviews", form | marked) == 303
        for wrong in ({"first": "5", "last": "4"}, {"first": "0", "last": "999999"}, {"first": "x", "last": "1"}):
            assert await post(carol, f"{hall.url}/console/reviews", form | wrong) == 400
        async with carol.get(open_ones) as answer:
            page = await answer.text()
        assert [f"reason {number}" in page for number in range(6)] == [True] * 2 + [False] * 4
        async with carol.get(f"{hall.url}/console/events/{events[3]['index']}") as answer:
            assert "by corp/lead at" in await answer.text()
        async with carol.get(f"{hall.url}/console/events/{events[1]['index']}") as answer:
            assert "by corp/lead at" not in await answer.text()
    [told] = await hall.office.events("audit.reviewed")
    assert (told["reason"], told["details"]["first"]) == ("all fine", events[2]["index"])
    assert told["details"]["end"] == events[5]["index"] + 1
