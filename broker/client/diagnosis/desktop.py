"""Remote Desktop: who answers, by which certificate, and whether FreeRDP, where it is, gets in with the password."""

from __future__ import annotations

from broker.client.diagnosis.finding import Finding, ok, problem, skipped
from broker.client.errors import ClientError, HostKeysUnknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from broker.client.documents import CredentialDocument
    from broker.client.rdp.session import Session

_SECONDS = 30.0
_PROBED = 5.0
_LOGON_FAILED = ("ERRCONNECT_LOGON_FAILURE", "ERRCONNECT_AUTHENTICATION_FAILED", "STATUS_LOGON_FAILURE")
_NOT_IN = frozenset({131, 132, 134, 147})
"""How FreeRDP 2 ends when a login is refused; some servers hang up on it, which it calls a failed connection (147).
Who answers there was found to be right a moment before."""


def tried(credential: CredentialDocument, folder: str, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Answer what became of the certificate, then of the login; `folder` is of ours alone, and vanishes."""
    from broker.client.rdp.session import Session

    try:
        session = Session.of(credential)
    except HostKeysUnknown as error:
        yield problem("certificate", "host-keys-unknown", str(error))
        return
    found = _certificate(session)
    yield found
    if found.status == "ok":
        yield _login(session, folder, environment)


def _certificate(session: Session) -> Finding:
    from broker.client.rdp.probe import NoAnswer, NotRdp, probe

    try:
        answered = probe(session.host, session.port, _PROBED)
    except NotRdp as error:
        return problem("certificate", "not-rdp", str(error))
    except NoAnswer as error:
        return problem("certificate", "port-silent", str(error))
    if not answered.nla:
        return problem("certificate", "no-nla", "the server does not offer Network Level Authentication")
    return _held(session, answered.certificate_sha256)


def _held(session: Session, found: str) -> Finding:
    from broker.client.rdp.pins import hold_to

    try:
        hold_to(session.pins, found, session.address)
    except ClientError as error:
        return problem("certificate", "rdp-certificate", str(error))
    return ok("certificate", "the server shows the certificate that AWS names, and offers NLA")


def _login(session: Session, folder: str, environment: Mapping[str, str]) -> Finding:
    from shutil import which
    from subprocess import TimeoutExpired, run

    from broker.client.rdp.freerdp import version_2, version_in

    program = which("xfreerdp", path=environment.get("PATH"))
    if not program or not environment.get("DISPLAY"):
        return skipped("login", "no xfreerdp, or no display, to try the password with")
    kept = {name: value for name, value in environment.items() if name != "BROKER_TOKEN"}
    kept |= {"HOME": folder, "XDG_CONFIG_HOME": folder}
    try:
        shown = run([program, "--version"], env=kept, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603  # found on PATH
        if version_in(shown.stdout) != 2:  # noqa: PLR2004  # the major version
            return skipped("login", "the password is tried with FreeRDP 2 alone")
        plan = version_2(program, session, ["+auth-only"], 0)
        ended = run(  # noqa: S603  # found on PATH
            plan.words, env=kept, input=plan.by_stdin, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except TimeoutExpired:
        return skipped("login", "xfreerdp did not end in time")
    if ended.returncode == 0:
        return ok("login", f"{session.username} gets in")
    if ended.returncode in _NOT_IN or any(text in ended.stdout + ended.stderr for text in _LOGON_FAILED):
        return problem("login", "password-changed", "Windows does not take the password that Lightsail reports")
    return skipped("login", f"xfreerdp could not try it (code {ended.returncode})")
