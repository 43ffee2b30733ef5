"""`broker login` as a person types it: a real OpenID provider, the real service, a browser that is driven."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import urlopen

import pytest

from tests.end_to_end.conftest import Ran
from tests.end_to_end.places import LINUX, Place, Running, a_place
from tests.real.conversation import Conversation
from tests.real.oidc_provider import OpenIdProvider

pytestmark = pytest.mark.real("node")

LINK = re.compile(r"(http://127\.0\.0\.1:\d+/\S+)")


@dataclass
class Desk:
    """Where a person sits: a home folder of their own, the service, and its identity provider."""

    place: Place
    service: Running
    provider: OpenIdProvider
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "BROKER_URL": self.service.url,
            "BROKER_CA_FILE": str(self.place.folder / "ca.pem"),
        }

    async def start(self, *words: str, **changes: str | None) -> asyncio.subprocess.Process:
        environment = {name: value for name, value in {**self.environment, **changes}.items() if value is not None}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "broker", *words),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def broker(self, *words: str, **changes: str | None) -> Ran:
        return await ended(await self.start(*words, **changes))

    async def log_in_by_device(self, login: str = "alice+ops", *words: str, **changes: str | None) -> Ran:
        process = await self.start("login", "--device", *words, **changes)
        link = await link_of(process)
        await asyncio.to_thread(self.provider.approve_device, link, login)
        return await ended(process)

    def secrets(self) -> list[str]:
        """Answer the tokens that are kept in files."""
        kept = [json.loads(path.read_text()) for path in self.home.rglob("logins/*.json")]
        return [each[name] for each in kept for name in ("access_token", "refresh_token") if each[name]]


async def ended(process: asyncio.subprocess.Process) -> Ran:
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return Ran(process.returncode or 0, out.decode(), err.decode())


async def link_of(process: asyncio.subprocess.Process) -> str:
    """Read what is said until there is a link with everything in it."""
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while line := (await process.stderr.readline()).decode():
            found = LINK.search(line)
            if found and "?" in found[1]:
                return found[1]
    raise AssertionError("no link was shown")


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdProvider]:
    with OpenIdProvider() as provider:
        yield provider


@asynccontextmanager
async def a_desk(tmp_path: Path, provider: OpenIdProvider, issuer: str = "", policies: str = "") -> AsyncIterator[Desk]:
    folder = tmp_path / "place"
    folder.mkdir()
    async with a_place(folder, [{**LINUX, "name": "web-1"}], issuer=provider.issuer) as place:
        settings = folder / "broker.toml"
        lines = (
            'audience = "lightsail-broker"\ncli_client_id = "cli"\ncli_scopes = ["openid", "offline_access", "creds"]\n'
        )
        settings.write_text(settings.read_text().replace('audience = "lightsail-broker"\n', lines + issuer))
        if policies:
            (folder / "policies" / "all.cedar").write_text(policies)
        async with place.serving() as service:
            (tmp_path / "home").mkdir()
            yield Desk(place, service, provider, tmp_path / "home")


@pytest.fixture
async def desk(tmp_path: Path, provider: OpenIdProvider) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path, provider) as desk:
        yield desk


STEP_UP = """
@id("strong")
permit (principal in Group::"corp/ops", action == Action::"ssh", resource)
when { context.mfa && context.ticket like "OPS-*" }
when { context has login_age && context.login_age <= 600 };
"""


def steps_up(desk: Desk, login: str) -> tuple[int, str, str]:
    """Ask for a credential at a terminal, answer for the ticket, and log in by another device when told to."""
    with Conversation(("get", "web-1"), desk.environment) as person:
        person.expect(r"which ticket is it, such as OPS-\*\? ")
        person.say("OPS-7")
        person.expect("log in again")
        link = person.expect(r"code in it: (http://127\.0\.0\.1:\d+/\S+)")[1]
        desk.provider.approve_device(link, login)
        code, out = person.end()
        return code, out, person.heard


async def test_who_has_to_log_in_more_strongly_does_so_on_the_way(tmp_path: Path, provider: OpenIdProvider) -> None:
    async with a_desk(tmp_path, provider, 'mfa_acr = ["strong"]\n', STEP_UP) as desk:
        assert (await desk.log_in_by_device("weak+ops")).code == 0
        refused = await desk.broker("get", "web-1", "--ticket", "OPS-7")
        assert (refused.code, "log in again with a second factor" in refused.err) == (6, True), refused.err
        code, out, heard = await asyncio.to_thread(steps_up, desk, "weak+ops")
        assert code == 0, heard
        assert json.loads(out)["protocol"] == "ssh"
        assert (await desk.broker("get", "web-1", "--ticket", "OPS-8")).code == 0  # the new login stays

        assert (await desk.log_in_by_device("weaknever+ops")).code == 0
        code, out, heard = await asyncio.to_thread(steps_up, desk, "weaknever+ops")
        assert (code, out) == (6, ""), heard
        assert "you have just logged in again, and it is not enough" in heard
        assert "its access token has to say acr strong\n" in heard, heard


FRESH = """
@id("fresh")
permit (principal in Group::"corp/ops", action == Action::"ssh", resource)
when { context.ticket like "OPS-*" && context has login_age && context.login_age <= 600 };
"""


async def test_who_has_to_log_in_more_recently_does_so_on_the_way(tmp_path: Path, provider: OpenIdProvider) -> None:
    async with a_desk(tmp_path, provider, policies=FRESH) as desk:
        assert (await desk.log_in_by_device("old+ops")).code == 0
        refused = await desk.broker("get", "web-1", "--ticket", "OPS-7")
        assert refused.code == 6
        assert "log in again (at most 10 minutes ago)." in refused.err
        assert "type: broker login --max-age 600s\n" in refused.err
        code, out, heard = await asyncio.to_thread(steps_up, desk, "old+ops")
        assert code == 0, heard
        assert json.loads(out)["protocol"] == "ssh"


async def test_by_another_device_and_everything_works_then(desk: Desk) -> None:
    ran = await desk.log_in_by_device()
    assert (ran.code, ran.out) == (0, ""), ran.err
    assert "you are corp/alice+ops (ops) until" in ran.err
    assert "renewed by itself, bound to this machine" in ran.err
    # The address and the authority are remembered: nothing has to be set any more.
    bare = {"BROKER_URL": None, "BROKER_CA_FILE": None}
    me = await desk.broker("whoami", "--format", "json", **bare)
    found = json.loads(me.out)
    assert (found["subject"], found["bound"], found["mfa"]) == ("alice+ops", True, True)
    assert found["token_from"].startswith(f"broker login at {desk.service.url}")
    issued = await desk.broker("get", "web-1", **bare)
    assert issued.code == 0, issued.err
    told = f"{ran.err}{me.out}{me.err}{issued.out}{issued.err}{desk.place.log}"
    assert len(desk.secrets()) == 2
    assert [secret[:6] for secret in desk.secrets() if secret in told] == []


async def test_by_the_browser_of_this_machine(desk: Desk) -> None:
    process = await desk.start("login", "--no-browser", DISPLAY=":no-such")
    link = await link_of(process)
    asked = parse_qs(urlsplit(link).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert {"state", "nonce", "code_challenge", "dpop_jkt"} <= asked.keys()
    back = await asyncio.to_thread(desk.provider.log_in, link, "bob+dev")
    strangers = [
        back.replace("/cb?", "/other?"),
        f"{back.partition('?')[0]}?code=injected&state=guessed",
        f"{back.partition('?')[0]}?code=injected",
        f"{back}&code=twice",
    ]
    for stranger in strangers:
        assert await asyncio.to_thread(status_of, stranger) == 404
    assert await asyncio.to_thread(status_of, back) == 200
    ran = await ended(process)
    assert ran.code == 0, ran.err
    assert "you are corp/bob+dev (dev)" in ran.err


def status_of(url: str) -> int:
    try:
        with urlopen(url, timeout=10) as answer:  # noqa: S310 -- on loopback
            return int(answer.status)
    except HTTPError as refusal:
        refusal.close()
        return refusal.code


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iss": "https://evil.test"}, "another identity provider"),
        ({"iss": None}, "another identity provider"),
        ({"code": None, "error": "access_denied", "error_description": "no\x1b[2J way"}, "refused: no[2J way"),
        ({"code": "not-the-code"}, "invalid_grant"),
    ],
)
async def test_what_comes_back_wrong_ends_the_login(changes: dict[str, str | None], said: str, desk: Desk) -> None:
    process = await desk.start("login", "--no-browser", DISPLAY=":no-such")
    back = await asyncio.to_thread(desk.provider.log_in, await link_of(process), "alice+ops")
    parts = urlsplit(back)
    answer = {name: values[0] for name, values in parse_qs(parts.query).items()} | changes
    query = urlencode({name: value for name, value in answer.items() if value is not None})
    assert await asyncio.to_thread(status_of, parts._replace(query=query).geturl()) == 200
    ran = await ended(process)
    assert ran.code == 3
    assert said in ran.err
    assert desk.secrets() == []


async def test_who_says_no_is_not_logged_in(desk: Desk) -> None:
    process = await desk.start("login", "--device")
    await asyncio.to_thread(desk.provider.refuse_device, await link_of(process))
    ran = await ended(process)
    assert (ran.code, "(access_denied)" in ran.err) == (3, True), ran.err


async def test_the_tokens_are_in_a_file_that_nobody_else_reads(desk: Desk) -> None:
    await desk.log_in_by_device()
    (file,) = desk.home.rglob("logins/*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    (index,) = desk.home.rglob("services.json")
    assert not any(secret in index.read_text() for secret in desk.secrets())
    file.chmod(0o644)
    ran = await desk.broker("whoami")
    assert (ran.code, "others can read" in ran.err, "broker login" in ran.err) == (2, True, True)


async def test_the_keyring_of_the_system_has_them_where_there_is_one(desk: Desk) -> None:
    ring = {
        "PYTHON_KEYRING_BACKEND": "tests.doubles.keyring.FolderKeyring",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TEST_KEYRING": str(desk.home / "ring"),
    }
    ran = await desk.log_in_by_device("alice+ops", **ring)
    assert ran.code == 0, ran.err
    assert desk.secrets() == []
    me = await desk.broker("whoami", "--format", "json", **ring)
    assert json.loads(me.out)["token_from"].endswith("(in the keyring)")
    without = await desk.broker("whoami")
    assert (without.code, "keyring" in without.err) == (2, True)
    assert (await desk.broker("logout", **ring)).code == 0
    assert list((desk.home / "ring").iterdir()) == []


async def test_logging_out_ends_the_login_here_and_at_the_provider(desk: Desk) -> None:
    await desk.log_in_by_device()
    refresh_token = desk.secrets()[1]
    ran = await desk.broker("logout")
    assert (ran.code, ran.err.count("could not be told")) == (0, 0), ran.err
    assert desk.secrets() == []
    again = await desk.broker("whoami")
    assert (again.code, "broker login" in again.err) == (3, True)
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "cli"}
    refused = await asyncio.to_thread(lambda: desk.provider.post("/token", **form))
    assert refused["error"] in {"invalid_grant", "invalid_request"}
    assert (await desk.broker("logout")).err == "broker: nobody was logged in here\n"


async def test_a_token_in_the_environment_goes_before_the_login_and_that_is_said(desk: Desk) -> None:
    ran = await desk.log_in_by_device("alice+ops", BROKER_TOKEN="something")
    assert (ran.code, "BROKER_TOKEN is set, and goes before this login" in ran.err) == (0, True)


async def test_where_nobody_can_log_in_that_is_said(tmp_path: Path, provider: OpenIdProvider) -> None:
    folder = tmp_path / "place"
    folder.mkdir()
    async with a_place(folder, [], issuer=provider.issuer) as place, place.serving() as service:
        (tmp_path / "home").mkdir()
        ran = await Desk(place, service, provider, tmp_path / "home").broker("login")
    assert (ran.code, "cli_client_id" in ran.err) == (2, True)


async def test_an_unknown_issuer_and_a_missing_address_are_refused(desk: Desk) -> None:
    ran = await desk.broker("login", "--issuer", "nobody")
    assert (ran.code, "one of these: corp" in ran.err) == (2, True)
    ran = await desk.broker("login", BROKER_URL=None)
    assert (ran.code, "which service?" in ran.err) == (2, True)
    ran = await desk.broker("login", BROKER_CA_FILE=None)
    assert (ran.code, "is not trusted" in ran.err) == (5, True)
