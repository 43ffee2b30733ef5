"""What a command's exit code says: the one table, for the service's problems as well as our own errors."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes, which scripts hold on to."""

    OK = 0
    PROBLEMS = 1
    """A check found problems."""
    USAGE = 2
    """The command, its arguments or its settings are wrong."""
    DENIED = 3
    NOT_READY = 4
    """Not ready yet: later it may be."""
    MISMATCH = 5
    """Somebody is not who they should be: a host key or a certificate."""
    NEEDS_MORE = 6
    """A stronger login, a reason, a ticket or an approval."""
    UNAVAILABLE = 7
    """The service, AWS or the audit log."""
    INTERRUPTED = 130


_BY_CODE = {
    "invalid_request": Exit.USAGE,
    "ambiguous_instance": Exit.USAGE,
    "protocol_not_supported": Exit.USAGE,
    "not_found": Exit.USAGE,
    "invalid_token": Exit.DENIED,
    "denied": Exit.DENIED,
    "locked": Exit.DENIED,
    "password_not_ready": Exit.NOT_READY,
    "instance_not_running": Exit.NOT_READY,
    "host_key_changed": Exit.MISMATCH,
    "superseded": Exit.NOT_READY,
    "request_closed": Exit.USAGE,
    "step_up_required": Exit.NEEDS_MORE,
    "reason_required": Exit.NEEDS_MORE,
    "ticket_required": Exit.NEEDS_MORE,
    "approval_required": Exit.NEEDS_MORE,
    "review_required": Exit.NEEDS_MORE,
}
_BY_STATUS = {400: Exit.USAGE, 401: Exit.DENIED, 403: Exit.DENIED, 404: Exit.USAGE}


def exit_of(code: str, status: int = 0) -> Exit:
    """Find the exit of a problem by its code, else by its HTTP status; whatever is not named is unavailability."""
    return _BY_CODE.get(code) or _BY_STATUS.get(status, Exit.UNAVAILABLE)
