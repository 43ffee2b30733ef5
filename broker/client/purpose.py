"""What a credential is asked for."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from broker.client.lease import Lease


class Purpose:
    """What a credential is asked for. Without any of it, every credential that is good will do."""

    def __init__(self, reason: str = "", ticket: str = "", *, break_glass: bool = False) -> None:
        self.reason = reason
        self.ticket = ticket
        self.break_glass = break_glass

    def document(self) -> dict[str, Any]:
        """Answer it as the members of a request."""
        return {"reason": self.reason, "ticket": self.ticket, "break_glass": self.break_glass}

    def is_met_by(self, lease: Lease) -> bool:
        """Tell whether a credential was granted for this very purpose, or there is none."""
        mine = self.document()
        return not any(mine.values()) or mine == lease.purpose
