"""`broker login`: log in at the company's identity provider, by the browser of this machine or by another device."""

from __future__ import annotations

import os
import sys
import time

from broker.cli import durations
from broker.cli.exits import Exit
from broker.cli.output import plain, talk
from broker.cli.parsing import guide
from broker.client import Access, Broker, BrokerProblem, Misconfigured
from broker.client.browser import browser_login
from broker.client.device import device_login
from broker.client.elsewhere import text, texts
from broker.client.proofs import ALGORITHM, ProofKey
from broker.client.providers import Provider, claims_of, discovered
from broker.client.services import Service, remembered_service
from broker.client.sessions import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping
    from typing import Any

    from broker.cli.parsing import Parser
    from broker.client.device import Invitation
    from broker.client.providers import Grant

_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


EXAMPLES = """\
broker login https://broker.example.com  # the address is remembered
broker login --device  # no browser here: type a code on your phone
broker login --issuer corp --max-age 5m  # a policy wants a fresh login
"""


def configure(parser: Parser) -> None:
    """Add the arguments."""
    guide(parser, EXAMPLES, see="broker whoami, broker logout, broker ssh")
    parser.add_argument("url", metavar="URL", nargs="?", help="of the service (default: BROKER_URL, else the last one)")
    parser.add_argument("--issuer", metavar="NAME", default="", help="the identity provider, where there are several")
    parser.add_argument("--device", action="store_true", help="type a code on another device, such as your phone")
    parser.add_argument(
        "--no-browser",
        action="store_true",
        help="start no browser: show the address, for you to open in one on this machine (on another: --device)",
    )
    parser.add_argument(
        "--ca-file", metavar="FILE", help="the authority of the service's certificate; it is remembered"
    )
    parser.add_argument("--acr", metavar="VALUE", default="", help="the kind of login to ask for, as a policy demands")
    parser.add_argument("--max-age", metavar="TIME", type=durations.seconds, help="log in anew when it was longer ago")


def run(arguments: Namespace) -> int:
    """Log in, keep what comes back, and say who one is."""
    service = _service(arguments)
    metadata = service.metadata()
    offered = _offered(metadata)
    name = _chosen(offered, arguments.issuer)
    issuer, elsewhere = offered[name], service.elsewhere()
    provider = Provider(elsewhere, issuer["issuer"], issuer["cli_client_id"], discovered(elsewhere, issuer["issuer"]))
    if provider.proves_possession and ALGORITHM in texts(metadata, "dpop_signing_alg_values_supported"):
        provider.key = ProofKey.generate()
    alone = len({each["issuer"] for each in offered.values()}) == 1
    grant = _granted(arguments, provider, _form(arguments, issuer), "" if alone else name)
    service.issuer, service.subject = provider.issuer, text(claims_of(grant.access_token), "sub")
    Session(os.environ, service).keep(provider, grant, text(issuer, "resource"))
    _welcome(service, grant)
    return Exit.OK


def log_in_again(acr: str, max_age: int | None) -> None:
    """Log in as before, more strongly or more recently; raises a ClientError.

    Args:
        acr: which kinds of login would do, in a row (RFC 9470); "" for any.
        max_age: how many seconds ago it may have been at most; None for any.
    """
    from argparse import Namespace

    service = remembered_service(os.environ, os.environ.get("BROKER_URL", "").rstrip("/"))
    before = service.issuer if service else ""
    offered = _offered(service.metadata()) if service else {}
    name = next((name for name, issuer in offered.items() if issuer["issuer"] == before), "")
    run(Namespace(url=None, issuer=name, device=False, no_browser=False, ca_file=None, acr=acr, max_age=max_age))


def _service(arguments: Namespace) -> Service:
    """Answer the service that is meant; what it was reached by before is used again."""
    url = (arguments.url or os.environ.get("BROKER_URL", "")).rstrip("/")
    service = remembered_service(os.environ, url)
    if service is None and not url:
        raise Misconfigured("which service? Type `broker login https://broker.example.com`, or set BROKER_URL")
    service = service or Service(url)
    given = {name: os.environ.get(f"BROKER_{name.upper()}") for name in ("ca_file", "client_cert", "client_key")}
    given["ca_file"] = arguments.ca_file or given["ca_file"]
    for name, path in given.items():
        if path:
            setattr(service, name, os.path.abspath(path))  # noqa: PTH100  # pathlib alone costs five milliseconds
    Access(service.url, _NoToken())  # whether it can be the address of a service
    return service


class _NoToken:
    """Stands in where nobody has logged in yet."""

    remedy = "type `broker login`"

    def current(self) -> Any:  # noqa: ANN401  # never answers
        """There is none."""
        raise Misconfigured(self.remedy)

    def renewed(self, refused: object) -> None:
        """There is none."""


def _offered(metadata: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Answer, by name, the identity providers where people can log in by the command line."""
    needed = ("name", "issuer", "cli_client_id")
    issuers = [each for each in metadata["issuers"] if isinstance(each, dict)]
    offered = {each["name"]: each for each in issuers if all(text(each, member) for member in needed)}
    if not offered:
        raise Misconfigured("nobody can log in by the command line here: an operator sets `cli_client_id` of an issuer")
    return offered


def _chosen(offered: Mapping[str, object], name: str) -> str:
    """Answer the name of the only identity provider, or the one that is asked for."""
    if name in offered or (not name and len(offered) == 1):
        return name or next(iter(offered))
    asked = f"there is no identity provider {name!r} here" if name else "there are several identity providers here"
    raise Misconfigured(f"{asked}: add --issuer with one of these: {', '.join(map(plain, sorted(offered)))}")


def _form(arguments: Namespace, issuer: Mapping[str, Any]) -> dict[str, str]:
    """Write down what is asked for."""
    asked = {
        "scope": " ".join(texts(issuer, "scopes") or ["openid", "offline_access"]),
        "resource": text(issuer, "resource"),
        "acr_values": arguments.acr,
        "max_age": "" if arguments.max_age is None else str(arguments.max_age),
    }
    return {name: value for name, value in asked.items() if value}


def _granted(arguments: Namespace, provider: Provider, form: Mapping[str, str], among: str) -> Grant:
    """Log in by the way that is at hand; `among` several providers the name of this one, else ""."""
    browser, opens = _has_browser(os.environ), _has_browser(os.environ) and not arguments.no_browser
    by_code = bool(provider.endpoint("authorization_endpoint"))
    by_device = bool(provider.endpoint("device_authorization_endpoint"))
    if by_code and not arguments.device and (browser or not by_device):
        _refuse_mix_up(provider, among)
        return browser_login(provider, form, lambda url: _show_browser(url, opens=opens))
    return device_login(provider, form, lambda invitation: _invite(invitation, opens=opens))


def _refuse_mix_up(provider: Provider, among: str) -> None:
    """Where a browser could bring back another provider's code, each answer has to name its sender (RFC 9700, 4.4)."""
    if among and not provider.names_itself:
        raise Misconfigured(
            f"{among} does not promise to name itself in its answers (RFC 9207), so among several identity providers"
            f" one could get what is another's: type `broker login --issuer {among} --device`, or ask whoever runs"
            f" {among} to switch that on"
        )


def _has_browser(environment: Mapping[str, str]) -> bool:
    """Tell whether a browser of this machine would be seen by who sits before the terminal."""
    if environment.get("SSH_CONNECTION"):
        return False
    return sys.platform in {"darwin", "win32"} or any(environment.get(name) for name in _SCREENS)


def _show_browser(url: str, *, opens: bool) -> None:
    talk("log in by the browser; if it does not open, go to" if opens else "log in by a browser on this machine, at")
    sys.stderr.write(f"\n  {plain(url)}\n\n")
    _open(url, wanted=opens)


def _invite(invitation: Invitation, *, opens: bool) -> None:
    talk(f"open {invitation.url} on any device, and type this code:")
    sys.stderr.write(f"\n    {invitation.code}\n\n")
    if invitation.complete:
        talk(f"or go there with the code in it: {invitation.complete}")
    _open(invitation.complete or invitation.url, wanted=opens)
    talk("waiting for you to confirm …")


def _open(url: str, *, wanted: bool) -> None:
    if wanted:
        import webbrowser

        webbrowser.open(url)


def local_time(at: float, now: float) -> str:
    """Write down a time of seconds since 1970 as it is here, with its zone, and its day unless that is today."""
    there, here = time.localtime(at), time.localtime(now)
    day = "" if there[:3] == here[:3] else "%Y-%m-%d "
    return time.strftime(f"{day}%H:%M %Z", there)


def _welcome(service: Service, grant: Grant) -> None:
    """Say who one is, as the service sees it; a login that the service does not take is told of at once."""
    environment = {**os.environ, "BROKER_URL": service.url}
    held = [name for name in ("BROKER_TOKEN", "BROKER_TOKEN_FILE") if environment.pop(name, None)]
    with Broker.from_environment(environment) as broker:
        try:
            me = broker.whoami()
        except BrokerProblem as problem:
            if problem.code == "invalid_token":
                problem.next = (
                    "the login worked, but the service does not take its token; give an operator the request id"
                )
            raise
    bound = ", bound to this machine" if me["bound"] else ""
    groups = f" ({', '.join(me['groups'])})" if me["groups"] else ""
    until = local_time(grant.expires_at, time.time()) if grant.expires_at else "it ends"
    renewed = ", then renewed by itself" if grant.refresh_token else ""
    talk(f"you are {me['issuer']}/{me['subject']}{groups} until {until}{renewed}{bound}")
    for name in held:
        talk(f"warning: {name} is set, and goes before this login: unset {name}")
