"""What a check found."""

from __future__ import annotations

from broker.client.diagnosis.causes import FIXES


class Finding:
    """One line of the report. `status` is `ok`, `problem` or `skipped`; the rest is "" but of a problem.

    `fix` says what to do, and `command`, where one helps, is what to type for it.
    """

    __slots__ = ("cause", "check", "command", "detail", "fix", "status")

    def __init__(self, check: str, status: str, detail: str, cause: str = "", fix: str = "", command: str = "") -> None:
        self.check, self.status, self.detail, self.cause, self.fix = check, status, detail, cause, fix
        self.command = command

    def document(self) -> dict[str, str]:
        """Answer it for a script."""
        return {name: getattr(self, name) for name in ("check", "status", "cause", "detail", "fix", "command")}


def ok(check: str, detail: str) -> Finding:
    """All is well here."""
    return Finding(check, "ok", detail)


def skipped(check: str, why: str) -> Finding:
    """Nobody looked."""
    return Finding(check, "skipped", why)


def problem(check: str, cause: str, detail: str, fix: str = "", command: str = "") -> Finding:
    """Name a cause of `FIXES`; `fix` says more closely what to do, and `command` what to type."""
    return Finding(check, "problem", detail, cause, fix or FIXES[cause], command)
