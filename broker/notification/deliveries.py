"""Which receivers have not been told yet of something that waits for people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from broker.notification.couriers import follower_of
from broker.outbound.webhooks import Receiver


class Deliveries:
    """Knows how far each receiver has come.

    Args:
        receivers: who is told.
        followers: how far each follower of the log has come, by its name; raises AuditUnavailable.
    """

    def __init__(self, receivers: Sequence[Receiver], followers: Callable[[], Awaitable[Mapping[str, int]]]) -> None:
        self._receivers = receivers
        self._followers = followers

    async def outstanding(self, event: str, indices: Iterable[int]) -> Mapping[int, Sequence[str]]:
        """Answer, by the index of an event of this name, the receivers that are to hear of it and have not yet."""
        wanting = [receiver.name for receiver in self._receivers if receiver.selection.wants(event)]
        if not wanting:
            return {}
        positions = await self._followers()
        return {index: [name for name in wanting if positions.get(follower_of(name), 0) <= index] for index in indices}
