"""Ids that people type: how they begin is enough."""

from __future__ import annotations

from broker.client import Misconfigured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

SHOWN = 8
"""So many characters of an id are shown in a table."""
_WHOLE = 32


def whole(text: str, what: str, found: Callable[[], Iterable[Mapping[str, Any]]], command: str) -> str:
    """Answer the whole id of what was named by how its id begins.

    Args:
        text: what was typed.
        what: what it is called.
        found: answers all that there are, each with its `id`.
        command: what lists them.
    """
    if len(text) >= _WHOLE:
        return text
    fitting = {str(each["id"]) for each in found() if str(each["id"]).startswith(text.rstrip("…"))}
    if len(fitting) > 1:
        raise Misconfigured(f"more than one {what} begins with {text}; write more of it")
    if not fitting or not text:
        raise Misconfigured(f"no {what} that you may see begins with {text!r}; `{command}` lists them")
    return fitting.pop()
