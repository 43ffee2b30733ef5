"""A real OpenID provider (Node's `oidc-provider`), started as a program of its own. Mark its users real("node")."""

import json
import os
import re
import select
import subprocess
from base64 import b64encode
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Self
from urllib.parse import urlencode, urlsplit

from tests.real.npm_packages import installed

_HERE = Path(__file__).parent / "oidc"
_FORM_FIELD = re.compile(r'<input[^>]*type="hidden"[^>]*name="([^"]+)"[^>]*value="([^"]*)"')
_FORM_ACTION = re.compile(r'<form[^>]*action="([^"]+)"')


_START_SECONDS = 25.0


class OpenIdProvider:
    """Issues RS256, ES256 and EdDSA access tokens (`typ` at+jwt) for the audience `lightsail-broker`.

    Clients: `ci` (secret `ci-secret`, client_credentials) and the public native `cli` (device flow, and code flow to
    `http://127.0.0.1/cb` on any port). A person may log in as any name, without a password; `alice+ops+dev` is in the
    groups ops and dev.

    Args:
        audience: the `aud` of its access tokens.
        token_seconds: how long they live.
        console: the address of a broker whose console signs in here, as `console` with the secret `console-secret`.
    """

    issuer: str

    def __init__(self, audience: str = "lightsail-broker", token_seconds: int = 300, console: str = "") -> None:
        self._settings = {"OP_AUDIENCE": audience, "OP_TOKEN_SECONDS": str(token_seconds), "OP_CONSOLE": console}
        self._program: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        settings = os.environ | self._settings | {"OP_PACKAGES": str(installed(_HERE))}
        for _ in range(3):  # node has been seen to start and never say anything, on a busy machine
            self._program = subprocess.Popen(
                ["node", str(_HERE / "op.mjs"), "0"],
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            assert self._program.stdout is not None
            if select.select([self._program.stdout], [], [], _START_SECONDS)[0]:
                self.issuer = json.loads(self._program.stdout.readline())["issuer"]
                return self
            with self._program:
                self._program.kill()
        raise AssertionError("the OpenID provider does not start")

    def __exit__(self, *_: object) -> None:
        assert self._program is not None
        with self._program:  # closes its pipe and waits for it
            self._program.terminate()

    def client_credentials(self, algorithm: str = "RS256") -> str:
        """Answer an access token of the client `ci`, signed with RS256, ES256 or EdDSA."""
        basic = b64encode(b"ci:ci-secret").decode()
        form = {"grant_type": "client_credentials", "resource": f"https://broker.test/{algorithm}", "scope": "creds"}
        answer = _Browser(self.issuer).send("POST", "/token", form, {"Authorization": f"Basic {basic}"})
        return str(json.loads(answer.body)["access_token"])

    def post(self, path: str, **form: str) -> dict[str, object]:
        """Post a form to an endpoint of the provider and answer its JSON, errors too."""
        found: dict[str, object] = json.loads(_Browser(self.issuer).send("POST", path, form).body)
        return found

    def approve_device(self, verification_uri_complete: str, login: str) -> None:
        """Do what a person does after `broker login` printed its link: log in and consent.

        Raises:
            AssertionError: the provider did not say that the device is approved.
        """
        page = _Browser(self.issuer).walk(verification_uri_complete, login)
        assert "Success" in page, page

    def refuse_device(self, verification_uri_complete: str) -> None:
        """Say no where a person is asked to confirm the device."""
        page = _Browser(self.issuer).walk(verification_uri_complete, "alice", refuse=True)
        assert "Success" not in page, page

    def log_in(self, authorization_url: str, login: str) -> str:
        """Do what a person does in the browser; answer the URL, of another server, that the provider sends them to."""
        return _Browser(self.issuer).walk(authorization_url, login)

    def rotate(self) -> None:
        """Sign with new keys from now on; the former ones stay published."""
        self._control("/__rotate")

    def drop(self) -> None:
        """Publish the newest keys only."""
        self._control("/__drop")

    def _control(self, path: str) -> None:
        assert _Browser(self.issuer).send("POST", path).status == 204


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    location: str
    body: str


class _Browser:
    """Just enough of one: cookies, redirects and hidden form fields."""

    def __init__(self, issuer: str) -> None:
        self._address = urlsplit(issuer).netloc
        self._cookies: dict[str, str] = {}

    def send(
        self, method: str, path: str, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> _Answer:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if form is not None else {}
        with closing(HTTPConnection(self._address, timeout=10)) as connection:
            connection.request(method, path, urlencode(form or {}), {"Cookie": cookies, **kind, **(headers or {})})
            answer = connection.getresponse()
            for value in answer.msg.get_all("Set-Cookie", []):
                self._cookies |= {name: morsel.value for name, morsel in SimpleCookie(value).items()}
            return _Answer(answer.status, answer.headers.get("Location", ""), answer.read().decode())

    def walk(self, url: str, login: str, *, refuse: bool = False) -> str:
        """Follow redirects and post every form back, logging in as `login`, until a page has no form.

        Answers that page, or the URL of another server to which the last redirect leads.
        """
        answer = self.send("GET", _path(url))
        for _ in range(20):
            action = _FORM_ACTION.search(answer.body)
            if answer.location and urlsplit(answer.location).netloc not in {"", self._address}:
                return answer.location
            if answer.location:
                answer = self.send("GET", _path(answer.location))
            elif action is None:
                return answer.body
            else:
                fields = dict(_FORM_FIELD.findall(answer.body)) | {"login": login, "password": "any"}
                if refuse and fields.pop("confirm", None):
                    return self.send("POST", _path(action[1]), fields | {"abort": "yes"}).body
                answer = self.send("POST", _path(action[1]), fields)
        raise AssertionError("the provider asks without end")


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
