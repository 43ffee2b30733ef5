"""JSON objects from strangers, read so that no two readers can disagree about them (pure).

I-JSON (RFC 7493) and a little more: UTF-8 without a byte order mark, no member twice, integers that a double holds
exactly, finite numbers, bounded depth, no control or bidirectional formatting characters and no lone surrogates.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final

_LARGEST_EXACT: Final = 2**53 - 1
_LONGEST_NUMBER: Final = 32

# ASCII without backslashes: its strings cannot hold anything that would have to be looked for.
_PLAIN: Final = re.compile(rb"[ -\[\]-~]*+")
# Controls, line and paragraph separators, bidirectional formatting, surrogates, byte order mark.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
# A string (ended or not), or a bracket. It can always match at a quote, which keeps the scan linear.
_STRUCTURE: Final = re.compile(r'"(?:[^"\\]|\\.?)*+"?|(?P<open>[\[{])|(?P<close>[\]}])', re.DOTALL)


class NotStrictJson(ValueError):
    """The bytes are no strict JSON object. The message says what is wrong and quotes nothing."""


def parse_object(raw: bytes, *, max_depth: int) -> dict[str, object]:
    """Answer the JSON object in `raw`.

    Args:
        raw: the whole document; whoever calls has bounded its length.
        max_depth: how deep arrays and objects may be nested; the outermost object is 1.

    Raises:
        NotStrictJson: it is anything else.
    """
    value = _decode(raw, max_depth)
    # Raised out here, where no other exception is being handled: json's own keeps the whole document.
    if not isinstance(value, dict):
        raise NotStrictJson("not a strict JSON object")
    if _PLAIN.fullmatch(raw) is None and _has_unsafe_text(value):
        raise NotStrictJson("a string holds characters that are not allowed")
    return value


def _decode(raw: bytes, max_depth: int) -> object:
    try:
        text = raw.decode("utf-8")
        return None if _deeper_than(text, max_depth) else _DECODER.decode(text)
    except ValueError:
        return None


def _deeper_than(text: str, limit: int) -> bool:
    if text.count("[") + text.count("{") <= limit:
        return False
    depth = 0
    for token in _STRUCTURE.finditer(text):
        depth += (token.lastgroup == "open") - (token.lastgroup == "close")
        if depth > limit:
            return True
    return False


def _has_unsafe_text(value: object) -> bool:
    if isinstance(value, str):
        return _UNSAFE.search(value) is not None
    if isinstance(value, dict):
        return any(map(_has_unsafe_text, value)) or any(map(_has_unsafe_text, value.values()))
    return isinstance(value, list) and any(map(_has_unsafe_text, value))


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrictJson("a member is there twice")
    return members


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER or abs(number := int(text)) > _LARGEST_EXACT:
        raise NotStrictJson("an integer is too large")
    return number


def _float(text: str) -> float:
    if len(text) > _LONGEST_NUMBER or not math.isfinite(number := float(text)):
        raise NotStrictJson("a number is too large")
    return number


def _constant(_: str) -> object:
    raise NotStrictJson("NaN and Infinity are not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_float, parse_constant=_constant, strict=True
)
