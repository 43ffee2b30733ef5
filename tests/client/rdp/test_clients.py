"""Which client is taken, and what is on its command line."""

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from broker.client import ClientError, Misconfigured
from broker.client.rdp import extras
from broker.client.rdp.clients import CLIENTS, NAMES, find
from broker.client.rdp.freerdp import version_in
from broker.client.rdp.plan import Plan
from broker.client.rdp.session import Session

PASSWORD = "?8h2!k,Z;=wQ: _T'r\"4u"
SESSION = Session("203.0.113.7", 3389, "Administrator", PASSWORD, ("ab" * 32, "cd" * 32))
PINS = f"/cert:deny,fingerprint:sha256:{':'.join(['AB'] * 32)},fingerprint:sha256:{':'.join(['CD'] * 32)}"
SCREEN = {"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}


def found(name: str, *programs: str, system: str = "linux", screen: dict[str, str] = SCREEN, version: int = 2) -> str:
    def which(program: str) -> str | None:
        return f"/bin/{program}" if program in programs else None

    client, path = find(name, which, lambda _: version, screen, system)
    plan = client.plan(path, SESSION, (), 9)
    return f"{path} {'pasted' if plan.pasted else 'fd' if plan.by_descriptor else 'stdin'}"


@pytest.mark.parametrize(
    ("programs", "system", "version", "taken"),
    [
        (["xfreerdp3", "xfreerdp", "remmina"], "linux", 2, "/bin/xfreerdp3 fd"),
        (["xfreerdp", "remmina"], "linux", 2, "/bin/xfreerdp stdin"),
        (["xfreerdp", "remmina"], "linux", 3, "/bin/xfreerdp fd"),
        (["sdl-freerdp", "xfreerdp"], "linux", 3, "/bin/sdl-freerdp fd"),
        (["wlfreerdp3", "remmina"], "linux", 2, "/bin/wlfreerdp3 fd"),
        (["remmina", "mstsc.exe"], "linux", 2, "/bin/remmina pasted"),
        (["mstsc.exe"], "linux", 2, "/bin/mstsc.exe pasted"),
        (["mstsc"], "win32", 2, "/bin/mstsc pasted"),
        (["open"], "darwin", 2, "/bin/open pasted"),
        (["open", "sdl-freerdp"], "darwin", 3, "/bin/sdl-freerdp fd"),
        (
            ["xfreerdp", "remmina"],
            "linux",
            0,
            "/bin/remmina pasted",
        ),  # one that does not tell its version is left alone
    ],
)
def test_the_best_that_is_there_is_taken(programs: list[str], system: str, version: int, taken: str) -> None:
    assert found("", *programs, system=system, version=version) == taken


def test_a_named_one_is_taken_and_no_other() -> None:
    assert found("remmina", "xfreerdp3", "remmina") == "/bin/remmina pasted"
    with pytest.raises(Misconfigured, match="there is no remmina"):
        found("remmina", "xfreerdp3")


def test_without_a_screen_that_is_said() -> None:
    with pytest.raises(Misconfigured, match="xfreerdp3 needs a screen, and DISPLAY is not set"):
        found("", "xfreerdp3", screen={})
    assert found("", "xfreerdp3", "wlfreerdp3", screen={"WAYLAND_DISPLAY": "w"}) == "/bin/wlfreerdp3 fd"


@pytest.mark.parametrize(
    ("system", "said"),
    [("linux", "apt install freerdp3-x11"), ("darwin", "brew install"), ("win32", "part of Windows")],
)
def test_without_a_client_what_to_install_is_said(system: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        found("", system=system)


@pytest.mark.parametrize(
    ("shown", "version"),
    [("This is FreeRDP version 2.11.7 (2.11.7)\n", 2), ("This is FreeRDP version 3.16.0 (n/a)", 3), ("", 0)],
)
def test_the_version_is_read(shown: str, version: int) -> None:
    assert version_in(shown) == version


def test_freerdp_3_is_told_everything_by_a_descriptor() -> None:
    plan = CLIENTS[0].plan("/bin/xfreerdp3", SESSION, ["/f"], 9)

    assert plan.words == ["/bin/xfreerdp3", "/args-from:fd:9"]
    assert plan.by_descriptor.splitlines() == [
        *("/v:203.0.113.7", "/port:3389", "/u:Administrator", "/d:.", "/sec:nla", PINS, "/f", f"/p:{PASSWORD}")
    ]


def test_freerdp_2_is_told_the_password_by_its_input() -> None:
    plan = CLIENTS[5].plan("xfreerdp", SESSION, ["/f"], 9)

    assert plan.words == [
        *(
            "xfreerdp",
            "/v:203.0.113.7",
            "/port:3389",
            "/u:Administrator",
            "/d:.",
            "/sec:nla",
            PINS,
            "/f",
            "/from-stdin:force",
        )
    ]
    assert plan.by_stdin == f"{PASSWORD}\n"


def test_the_windows_app_is_told_by_its_scheme() -> None:
    session = replace(SESSION, host="2001:db8::7")
    _, url = CLIENTS[-1].plan("open", session, [], 9).words

    assert url.startswith("rdp://full%20address=s:[2001:db8::7]:3389&username=s:Administrator&")
    assert parse_qs(urlsplit(f"x:?{url.removeprefix('rdp://')}").query)["redirectclipboard"] == ["i:0"]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.program)
def test_no_command_line_and_no_text_of_ours_has_the_password(client: object) -> None:
    plan = next(each for each in CLIENTS if each is client).plan("x", SESSION, [], 9)

    assert isinstance(plan, Plan)
    assert PASSWORD not in " ".join([*plan.words, *plan.extras]) + repr(plan) + repr(SESSION)


def test_an_ipv6_address_is_put_in_brackets() -> None:
    session = replace(SESSION, host="2001:db8::7")

    assert session.address == "[2001:db8::7]:3389"
    assert CLIENTS[0].plan("x", session, [], 9).by_descriptor.startswith("/v:[2001:db8::7]\n/port:3389\n")


@pytest.mark.parametrize("field", ["host", "username", "password"])
@pytest.mark.parametrize("value", ["", "a\n/cert:ignore", "a\r", "\u00e4", "a\0b"])
def test_what_could_begin_another_argument_is_refused(field: str, value: str) -> None:
    changed: dict[str, Any] = {field: value}
    with pytest.raises(ClientError) as refused:
        replace(SESSION, **changed)
    assert "cert" not in str(refused.value)


@pytest.mark.parametrize(
    "word",
    [
        *(
            "/p:x",
            "/P:x",
            "-p",
            "+p:x",
            "/pth:x",
            "/v:evil",
            "/u:x",
            "/d:x",
            "/port:1",
            "/args-from:file",
            "/from-stdin",
        ),
        *("/cert:ignore", "/cert-ignore", "-cert-ignore", "/cert-tofu", "/certificate:x", "--ignore-certificate"),
        *("/sec:rdp", "/sec-tls", "-sec-nla", "/tls:seclevel:0", "/tls-secrets-file:x", "-authentication", "-nego"),
        *("/g:gw", "/gp:x", "/gateway:g:x", "/proxy:http://a:b@c", "/server-name:x", "/azure:x", "/assistance:x"),
        *("evil.rdp", "", "-", "--", "/", "/f\n/cert:ignore", "ignore", "\x1b"),
    ],
)
def test_what_would_undo_the_safety_is_refused_and_its_value_is_not_shown(word: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        extras.for_freerdp(["/f", word])
    assert "evil" not in str(refused.value) or word == "evil.rdp"


@pytest.mark.parametrize("word", ["/f", "+clipboard", "-fonts", "/drive:docs,/srv/docs", "/w:1600", "/t:my title"])
def test_what_changes_the_session_alone_is_handed_through(word: str) -> None:
    assert extras.for_freerdp([word]) == [word]


@pytest.mark.parametrize(
    ("admits", "good", "bad"),
    [
        (extras.for_mstsc, ["/f", "/w:1600", "/multimon"], ["/v:x", "/g:x", "other.rdp", "/f x", "/edit"]),
        (extras.for_remmina, ["--enable-fullscreen"], ["-c", "--update-profile", "--set-option=password", "x.rdp"]),
        (extras.for_nobody, [], ["/f", "", "-a"]),
    ],
)
def test_the_others_take_a_short_list(admits: object, good: list[str], bad: list[str]) -> None:
    assert callable(admits)
    assert admits(good) == good
    for word in bad:
        with pytest.raises(Misconfigured):
            admits([word])


def test_every_client_can_be_named() -> None:
    assert set(NAMES) >= {"xfreerdp3", "sdl-freerdp", "xfreerdp", "wlfreerdp3", "remmina", "mstsc", "windows-app"}
