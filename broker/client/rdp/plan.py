"""How a client is started, and the one way by which the password gets to it."""

from __future__ import annotations

from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Plan:
    """A command line, which holds no secret.

    `by_descriptor` and `by_stdin` are what is written there. Where both are empty, the person pastes the password.
    `isolated` gives it empty settings of its own: what it trusted before does not count.
    `reads_file` puts the name of a `.rdp` file behind the words, and `extras` behind that; `foreign` says that the
    program is one of Windows, which names files in its own way.
    `returns_at_once`: the program hands over to another one and ends, so its end says nothing of the session's.
    """

    words: Sequence[str]
    by_descriptor: str = field(default="", repr=False)
    by_stdin: str = field(default="", repr=False)
    extras: Sequence[str] = ()
    isolated: bool = False
    reads_file: bool = False
    foreign: bool = False
    returns_at_once: bool = False

    @property
    def pasted(self) -> bool:
        """Whether the password has to be pasted."""
        return not (self.by_descriptor or self.by_stdin)
