"""From templates to pages, each with a policy of its own that lets nothing run but our one script."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Final, NamedTuple
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from broker.web.problems import Problem
from broker.web.routes import Answer

_CONTENT_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY: Final = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script';"
    " trusted-types 'none'"
)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_NO_SIGN: Final = "—"


class Asset(NamedTuple):
    """A file that pages need: what it holds, of which type, and a mark that changes with it."""

    content: bytes
    content_type: str
    etag: str


def assets() -> Mapping[str, Asset]:
    """Read every file that pages need, by its name."""
    folder = resources.files("broker.web.console") / "assets"
    return {file.name: _asset(file.name, file.read_bytes()) for file in folder.iterdir() if file.is_file()}


def _asset(name: str, content: bytes) -> Asset:
    kind = _CONTENT_TYPES[name[name.rindex(".") :]]
    return Asset(content, f"{kind}; charset=utf-8", f'"{hashlib.sha256(content).hexdigest()[:32]}"')


class Renderer:
    """Renders the templates of this folder. What they are told is escaped; what they are not told is an error."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=PackageLoader("broker.web.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "moment": moment,
            "clock": clock,
            "hour": hour,
            "thousands": thousands,
            "query": query,
            "plain": plain,
        }

    def page(
        self, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: object
    ) -> Answer:
        """Answer a page."""
        nonce = secrets.token_urlsafe(16)
        text = self._templates.get_template(template).render(nonce=nonce, **values)
        return Answer(
            text.encode(),
            status=status,
            headers={**_HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce), **(headers or {})},
            content_type="text/html; charset=utf-8",
        )

    def error(self, problem: Problem) -> Answer:
        """Answer the page of an error."""
        headers = {"Retry-After": str(problem.retry_after)} if problem.retry_after else {}
        return self.page("error.html", status=problem.status, headers=headers, problem=problem, session=None)


def moment(value: str | datetime) -> str:
    """Write a time for people: UTC, to the second."""
    when = datetime.fromisoformat(value) if isinstance(value, str) else value
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def clock(value: str | datetime) -> str:
    """Write a time within a day."""
    return moment(value)[11:16]


def hour(value: str | datetime) -> str:
    """Write a time to the minute, without its year."""
    return moment(value)[5:16]


def thousands(value: int) -> str:
    """Write a number so that it can be read."""
    return f"{value:,}"


def query(values: Mapping[str, object], **changed: object) -> str:
    """Write filters as the query of a link, some of them changed; empty ones are left out."""
    merged = {name: value for name, value in {**values, **changed}.items() if value not in {None, ""}}
    return f"?{urlencode(merged)}" if merged else "?"


def plain(value: object) -> str:
    """Write what a member of an event says on one line."""
    match value:
        case None | "" | []:
            return _NO_SIGN
        case list():
            return ", ".join(map(str, value))
        case dict():
            return ", ".join(f"{name}: {plain(part)}" for name, part in value.items())
    return str(value)
