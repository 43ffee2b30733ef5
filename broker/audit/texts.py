"""Searching for words: which text of an event counts, what its words are, and what a query asks for. Pure.

A word is a run of letters and digits, in lower case; letters beyond ASCII are spelt by their number, so that every
index cuts words alike. A query fits when each of its words is a word of the event: beginnings of words
would have an index gather all that begins so before it can answer the newest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from broker.audit.leaves import search_columns

MAX_WORDS: Final = 16
"""Of a query."""
_MAX_WORD: Final = 64
_WORD: Final = re.compile(r"[^\W_]+")
_FOREIGN: Final = re.compile(r"[^a-z0-9]")
_PLAIN: Final = ("reason", "ticket", "error", "target", "request_id", "lease_id", "upstream_request_id")
_WITHIN: Final = (
    ("source", "ip"),
    ("source", "user_agent"),
    ("credential", "key_id"),
    ("credential", "certificate_serial"),
    ("credential", "public_key_sha256"),
    ("details", "os_user"),
)


def words(text: str) -> list[str]:
    """Answer the words of a text, in order, each at most 64 characters long."""
    found = _WORD.findall(text.casefold())
    return [_FOREIGN.sub(lambda letter: f"u{ord(letter[0]):x}", word)[:_MAX_WORD] for word in found]


def words_of(members: Mapping[str, object]) -> str:
    """Answer the words by which an event is found, each once, with spaces between."""
    return " ".join(dict.fromkeys(word for text in _texts(members) for word in words(text)))


def fits(query: Sequence[str], members: Mapping[str, object]) -> bool:
    """Tell whether every word of a query is a word of the event."""
    return set(query) <= set(words_of(members).split(" "))


def _texts(members: Mapping[str, object]) -> Iterator[str]:
    columns = search_columns(members)
    yield from (columns.actor, columns.instance)
    yield from (str(members[name]) for name in _PLAIN if members.get(name))
    for outer, inner in _WITHIN:
        member = members.get(outer)
        if isinstance(member, Mapping) and member.get(inner):
            yield str(member[inner])
    decision = members.get("decision")
    policies = decision.get("policies") if isinstance(decision, Mapping) else None
    yield from map(str, policies if isinstance(policies, list) else ())
