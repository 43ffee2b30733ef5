"""Every error that may leave a room. Each has a stable `code` and one public sentence; nothing else is shown outside.

BrokerError
├── InvalidRequest           the request itself is wrong
├── InvalidToken             any fault of the access token; the cause stays in the log
│   └── NonceNeeded            … but the same proof with our newest nonce would do
├── Refused                  the policies say no
│   ├── Denied                 … or there is no such instance
│   ├── StepUpRequired         … but a fresher or stronger login would do
│   ├── ReasonRequired         … but a reason would do
│   ├── TicketRequired         … but a ticket would do
│   ├── ApprovalRequired       … but an approval would do
│   ├── ReviewRequired         … but somebody has to look at the last break-glass use first
│   └── Locked                 somebody keeps this person, program, instance or account out
├── NotFound                 a route or id that is not there
├── Conflict                 the state of the instance does not allow it
│   ├── AmbiguousInstance · InstanceNotRunning · PasswordNotReady
│   ├── RequestClosed · Superseded
│   └── HostKeyChanged · ProtocolNotSupported
├── Unopenable               a Windows password that we cannot open
│   └── KeyNotHeld · PasswordUndecryptable
├── TooMany                  RateLimited · BudgetExhausted
├── Upstream                 AWS's side
│   └── UpstreamError · UpstreamUnavailable
└── Unavailable              our side
    ├── AuditUnavailable
    │   └── AuditInUse           another process writes the log
    └── Overloaded · PoliciesUnavailable · KeysUnavailable · ProviderUnavailable
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from broker.model import Step


class BrokerError(Exception):
    """Base of all. `detail`, `next_step`, `choices` and `upstream_code` are public.

    For the log only: `cause`, and how often AWS may have received the request for a credential (`attempts`) with the
    id that it gave to the last one.
    """

    code: ClassVar[str] = "internal_error"
    sentence: ClassVar[str] = "The broker failed."

    def __init__(
        self,
        cause: str = "",
        *,
        detail: str = "",
        next_step: str = "",
        retry_after: int | None = None,
        upstream_code: str = "",
        choices: tuple[str, ...] = (),
    ) -> None:
        super().__init__(cause or self.sentence)
        self.cause = cause
        self.detail = detail or self.sentence
        self.next_step = next_step
        self.retry_after = retry_after
        self.upstream_code = upstream_code
        self.choices = choices
        self.attempts = 0
        self.upstream_request_id = ""


class InvalidRequest(BrokerError):
    """The request is not JSON, has a wrong type, an unknown or duplicate member, or is too large."""

    code = "invalid_request"
    sentence = "The request is not valid."


class InvalidToken(BrokerError):
    """Any fault of the access token. One answer for all of them: a prober learns nothing."""

    code = "invalid_token"
    sentence = "The access token is missing, malformed, expired or not acceptable here."


class NonceNeeded(InvalidToken):
    """The proof has no nonce of ours, or an old one (RFC 9449, section 9); said before anything else was looked at."""


class Refused(BrokerError):
    """The policies say no. `steps` would make them say yes."""

    code = "denied"
    sentence = "The policies do not allow this, or there is no such instance."
    steps: tuple[Step, ...] = ()


class Denied(Refused):
    """The policies say no, or there is no such instance: nobody outside can tell which."""


class StepUpRequired(Refused):
    """A fresher or stronger login would be enough (RFC 9470)."""

    code = "step_up_required"
    sentence = "A stronger or more recent login is required."


class ReasonRequired(Refused):
    """A reason would be enough."""

    code = "reason_required"
    sentence = "A reason is required."


class TicketRequired(Refused):
    """A ticket would be enough."""

    code = "ticket_required"
    sentence = "A ticket is required."


class ApprovalRequired(Refused):
    """An approval would be enough."""

    code = "approval_required"
    sentence = "Somebody has to approve this first."


class ReviewRequired(Refused):
    """Who broke the glass cannot do so again before somebody else has reviewed that."""

    code = "review_required"
    sentence = "Your last break-glass use has to be reviewed first."


class Locked(Refused):
    """Somebody keeps this person, program, instance or account out; `detail` says what they wrote."""

    code = "locked"
    sentence = "This is locked."


class NotFound(BrokerError):
    """A route or an id that is not there; never an instance that the caller may not see."""

    code = "not_found"
    sentence = "There is nothing here."


class Conflict(BrokerError):
    """The state of the instance does not allow it."""


class Superseded(Conflict):
    """Somebody else was faster: what this rested on has changed since it was read."""

    code = "superseded"
    sentence = "This has changed meanwhile; look again."


class RequestClosed(Conflict):
    """An access request that nothing can be done with any more."""

    code = "request_closed"
    sentence = "This request is not open any more."


class AmbiguousInstance(Conflict):
    """The bare name fits several instances that the caller may see; `choices` lists them."""

    code = "ambiguous_instance"
    sentence = "More than one instance has this name."


class InstanceNotRunning(Conflict):
    """Lightsail gives no access details while an instance is not running."""

    code = "instance_not_running"
    sentence = "The instance is not running."


class PasswordNotReady(Conflict):
    """A Windows instance makes its password in the first minutes of its life."""

    code = "password_not_ready"
    sentence = "The Windows password is not ready yet."


class HostKeyChanged(Conflict):
    """The host key is not the one that was pinned."""

    code = "host_key_changed"
    sentence = "The host key of the instance has changed."


class ProtocolNotSupported(Conflict):
    """Windows is opened by rdp, everything else by ssh."""

    code = "protocol_not_supported"
    sentence = "The platform of this instance does not speak this protocol."


class Unopenable(BrokerError):
    """A Windows password that cannot be opened here."""


class KeyNotHeld(Unopenable):
    """The custom key pair of the instance is not in custody."""

    code = "key_not_held"
    sentence = "The private key that opens this password is not in custody."


class PasswordUndecryptable(Unopenable):
    """The key in custody does not open this ciphertext."""

    code = "password_undecryptable"
    sentence = "The key in custody does not open this password."


class TooMany(BrokerError):
    """The caller asks too often."""


class RateLimited(TooMany):
    """More requests than `limits.per_caller_per_minute`."""

    code = "rate_limited"
    sentence = "Too many requests."


class BudgetExhausted(TooMany):
    """More than `limits.instances_per_caller_per_hour` or `limits.issues_per_caller_per_minute`."""

    code = "budget_exhausted"
    sentence = "Too many credentials or instances within a short time."


class Upstream(BrokerError):
    """AWS did not do what was asked; `upstream_code` is AWS's own code."""


class UpstreamError(Upstream):
    """AWS answered with an error, or with something that is not to be trusted."""

    code = "upstream_error"
    sentence = "AWS answered with an error."


class UpstreamUnavailable(Upstream):
    """AWS is throttling, down or out of reach; trying again later may help."""

    code = "upstream_unavailable"
    sentence = "AWS cannot be reached or is busy."


class Unavailable(BrokerError):
    """The broker itself cannot serve now."""


class AuditUnavailable(Unavailable):
    """The log cannot be written, so nothing may leave."""

    code = "audit_unavailable"
    sentence = "The audit log cannot be written; no credential leaves without its record."


class AuditInUse(AuditUnavailable):
    """Another process of the broker has the log open for writing, such as the running service."""


class Overloaded(Unavailable):
    """More requests at once than the broker takes."""

    code = "overloaded"
    sentence = "The broker is busy."


class PoliciesUnavailable(Unavailable):
    """There is no valid policy set."""

    code = "policies_unavailable"
    sentence = "The policies cannot be evaluated."


class ProviderUnavailable(Unavailable):
    """The identity provider does not do its part of a login to the console."""

    code = "provider_unavailable"
    sentence = "The identity provider cannot be reached, or refused; try to sign in again."


class KeysUnavailable(Unavailable):
    """The custody of keys cannot be read."""

    code = "keys_unavailable"
    sentence = "The keys in custody cannot be read."
