"""Logging in on another device: a short code is typed there, and we wait here (RFC 8628)."""

from __future__ import annotations

import time

from broker.client.elsewhere import OK, is_safe
from broker.client.errors import LoginRefused, ProviderFault, Unreachable
from broker.client.providers import refusal, seconds_of, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker.client.elsewhere import Reply
    from broker.client.providers import Grant, Provider

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL, _SLOWER = 5.0, 5.0
_LONGEST_WAIT = 3600.0


class Invitation:
    """What the person is told: to open `url`, and to type `code` there; `complete` has it in it already, or is ""."""

    def __init__(self, reply: Reply) -> None:
        self.code = shown(reply.text("user_code"))
        self.url = reply.text("verification_uri") or reply.text("verification_url")
        complete = reply.text("verification_uri_complete")
        self.complete = complete if is_safe(complete) else ""


def device_login(
    provider: Provider,
    form: Mapping[str, str],
    invite: Callable[[Invitation], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Grant:
    """Log in by the device flow.

    Args:
        provider: where.
        form: what is asked for: `scope`, `resource` …
        invite: tells the person what to do.
        sleep: waits, in seconds.
        clock: seconds, from any beginning.

    Raises:
        LoginRefused: the person said no, took too long, or the provider does not allow it.
        ProviderFault: the provider answers nothing that makes sense.
        Unreachable: it does not answer.
    """
    reply = provider.post("device_authorization_endpoint", form)
    device_code = reply.text("device_code")
    if reply.status != OK or not device_code:
        raise refusal(reply, provider.issuer)
    invitation = Invitation(reply)
    if not invitation.code or not is_safe(invitation.url):
        raise ProviderFault(f"{provider.issuer} answered a device login that cannot be used; tell whoever runs it")
    deadline = clock() + min(seconds_of(reply, "expires_in", provider.issuer) or _LONGEST_WAIT, _LONGEST_WAIT)
    interval = seconds_of(reply, "interval", provider.issuer) or _INTERVAL
    invite(invitation)
    asked = {"grant_type": GRANT, "device_code": device_code}
    if "resource" in form:
        asked["resource"] = form["resource"]
    while clock() + interval < deadline:
        sleep(interval)
        try:
            answer = provider.token(asked)
        except Unreachable:
            interval = min(interval * 2, 60.0)  # RFC 8628, section 3.5
            continue
        match answer.text("error"):
            case "authorization_pending":
                continue
            case "slow_down":
                interval += _SLOWER
            case "expired_token":
                break
            case _:
                return provider.granted(answer)
    raise LoginRefused("the code was not confirmed in time", "expired_token")
