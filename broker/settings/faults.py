"""Every fault in words: where it is, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from broker.settings.sections import Settings, keys_of
from broker.settings.values import guess


class SettingsError(Exception):
    """The settings cannot be used. `problems` lists every fault, each with its path.

    `path` is the file, where the faults are of what stands in it.
    """

    def __init__(self, problems: Sequence[str], path: Path | None = None) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
        self.path = path


def describe_all(faults: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe each fault, but not that a list is too short because its only element is wrong."""
    places = [fault["loc"] for fault in faults]
    deeper = {place[:length] for place in places for length in range(1, len(place))}
    return [_describe(fault) for fault in faults if fault["type"] != "too_short" or fault["loc"] not in deeper]


def _describe(fault: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    what = _sentence(fault)
    return f"{where}: {what}" if where else what


_SENTENCES = {
    "missing": "is missing",
    "string_type": "write text",
    "string_too_short": "must not be empty",
    "path_type": "write a path",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "int_type": "write a whole number",
    "int_parsing": "write a whole number",
    "int_from_float": "write a whole number",
    "tuple_type": "write a list",
    "too_short": "must not be empty",
    "mapping_type": "write a table",
    "dict_type": "write a table",
    "model_type": "write a table",
    "time_delta_type": "write a duration like 90s, 15m or 1h30m",
    "literal_error": "write {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}
"""Pydantic's kinds of faults, in the words of whoever writes a settings file."""


def _sentence(fault: Mapping[str, Any]) -> str:
    kind, place = str(fault["type"]), fault["loc"]
    if kind == "extra_forbidden":
        return no_such_setting([str(part) for part in place])
    if kind in _SENTENCES:
        return _SENTENCES[kind].format_map(fault.get("ctx", {}))
    return str(fault["msg"]).removeprefix("Value error, ")


def no_such_setting(path: Sequence[str]) -> str:
    """Guess at the part that is wrong: the section, or else the last one."""
    section, name = path[0], path[-1]
    if section not in Settings.model_fields:
        close = get_close_matches(section, Settings.model_fields, n=1)
    else:
        close = [] if name in keys_of(section) else get_close_matches(name, keys_of(section), n=1)
    return "there is no such setting" + guess(close)
