"""Parse and validate policies in a process of its own: `python -I -m broker.authorization.checking`.

The Cedar parser can overflow its stack on hostile text and take the process with it; here that costs nothing but the
answer. Reads `{name: text}` on stdin and writes one JSON line per policy or problem. Before a policy is handed to the
parser its place is written, so that whoever reads knows where a crash happened.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from bisect import bisect_left
from collections import defaultdict
from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from cedarpy import PolicySet, policies_to_json_str, validate_policies

from broker.authorization.durations import parse_duration
from broker.authorization.heads import named_principals, samples, scope_actions, scope_key
from broker.authorization.schema import schema
from broker.authorization.syntax import Piece, Places, pieces, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

Line = dict[str, Any]
CedarJson = dict[str, Any]

CPU_SECONDS = 120
SLICE_ID = "policy0"
"""The id that Cedar gives to the first policy of a text."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_BOUNDS = ("max_duration", "max_staleness")
_KNOWN_ANNOTATIONS = ("id", *_BOUNDS)
_QUOTED = re.compile(r"(?:`|invalid variable: )([^`]+)")
_UNFINISHED = "unexpected end of input"


class Fault(NamedTuple):
    """What is wrong with one policy; `offset` is where in its text."""

    message: str
    offset: int = 0


def main() -> None:
    """Check what stdin brings and write the findings to stdout."""
    with suppress(PermissionError):  # a filter of system calls may keep it from that
        os.nice(5)  # requests go first
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    for name, text in json.load(sys.stdin).items():
        for line in check_file(text):
            print(json.dumps({"file": name, **line}), flush=True)  # noqa: T201 - stdout is how this process answers


def check_file(text: str) -> Iterator[Line]:
    """Check every policy of one file, each on its own, so that a broken one does not hide the next."""
    place = Places(text)
    parsed: list[tuple[Piece, CedarJson]] = []
    cut = list(pieces(text))
    for piece in cut:
        line, column = place(piece.offset)
        yield {"at": [line, column]}
        policy = parse(piece)
        if isinstance(policy, Fault):
            yield problem(place, piece, policy)
        else:
            parsed.append((piece, policy))
    invalid = validation_faults([piece.text for piece, _ in parsed])
    for number, (piece, policy) in enumerate(parsed):
        found = [*annotation_faults(piece.text, policy.get("annotations", {}), policy["effect"]), *invalid[number]]
        yield from (problem(place, piece, fault) for fault in found)
        if not found:
            line, column = place(piece.offset)
            yield {"line": line, "column": column, "text": piece.text, **describe(policy)}
    if len(parsed) == len(cut) and len(PolicySet.from_str(text)) != len(cut):
        # Both readings must agree on where policies begin and end, else one would be skipped in silence.
        yield {"line": 0, "column": 0, "message": "the file cannot be divided into policies"}


def problem(place: Places, piece: Piece, fault: Fault) -> Line:
    """Say where in the file a fault is."""
    line, column = place(piece.offset + fault.offset)
    return {"line": line, "column": column, "message": fault.message}


def parse(piece: Piece) -> CedarJson | Fault:
    """Answer the Cedar JSON of one policy, from which the engine can build it, or why there is none."""
    if piece.fault:
        return Fault(piece.fault)
    try:
        document = policies_to_json_str(piece.text)
    except ValueError as error:
        return Fault(str(error), locate_syntax_error(piece.text, str(error)))
    try:
        PolicySet.from_json_str(document)  # as the service will: its depth is bounded, and so is what we read below
    except ValueError:
        return Fault('the policy is too deep; write a long chain of || as a set: ["a", "b"].contains(…)')
    parsed: CedarJson = json.loads(document)
    if parsed["templates"]:
        return Fault("templates (?principal, ?resource) are not supported", max(piece.text.find("?"), 0))
    policy: CedarJson = parsed["staticPolicies"][SLICE_ID]
    return policy


def validation_faults(texts: list[str]) -> defaultdict[int, list[Fault]]:
    """Have Cedar validate policies against the schema, and answer the faults by position in `texts`."""
    found: defaultdict[int, list[Fault]] = defaultdict(list)
    # Together they take a quarter of the time; Cedar numbers them in their order.
    for error in validate_policies("\n".join(texts), schema()).errors:
        number = int(error.policy_id.removeprefix("policy"))
        message = error.error.removeprefix(f"for policy `{error.policy_id}`, ")
        found[number].append(Fault(message, locate_quoted(texts[number], message)))
    return found


def annotation_faults(text: str, annotations: dict[str, str | None], effect: str) -> Iterator[Fault]:
    """Find a missing or odd `@id`, a bound that is none, and names that look like those of bounds."""
    if not _ID.fullmatch(annotations.get("id") or ""):
        yield Fault('every policy needs an @id("…") of letters, digits, dots, dashes and underscores')
    for bound in _BOUNDS:
        if bound not in annotations:
            continue
        where = max(text.find(f"@{bound}"), 0)
        if effect != "permit":
            yield Fault(f"@{bound} bounds a permit; a forbid grants nothing", where)
        try:
            parse_duration(annotations[bound] or "")
        except ValueError as error:
            yield Fault(f"@{bound}: {error}", where)
    for name in annotations.keys() - set(_KNOWN_ANNOTATIONS):
        # A bound that is ignored because of a slip of the pen is no bound.
        if meant := get_close_matches(name.lower(), _BOUNDS, n=1, cutoff=0.7):
            yield Fault(f"@{name} means nothing; did you mean @{meant[0]}?", max(text.find(f"@{name}"), 0))


def locate_syntax_error(text: str, message: str) -> int:
    """Answer where the parser stumbled: it gives no place, but the shortest prefix with a fault ends at it."""
    found = tokens(text)
    first = bisect_left(found, 1, key=lambda token: int(not _unfinished(text[: token.end()])))
    # Only the whole is wrong: its meaning, not its grammar. The message may quote what it is about.
    return found[first].start() if first < len(found) - 1 else locate_quoted(text, message)


def _unfinished(text: str) -> bool:
    try:
        PolicySet.from_str(text)
    except ValueError as error:
        return str(error) == _UNFINISHED
    return False


def locate_quoted(text: str, message: str) -> int:
    """Answer where the first thing that a message quotes stands in the policy; 0 when it quotes nothing of it."""
    places = (text.find(quoted) for quoted in _QUOTED.findall(message))
    return next((place for place in places if place >= 0), 0)


def describe(policy: CedarJson) -> Line:
    """Answer what the broker keeps of a sound policy."""
    annotations = policy.get("annotations", {})
    return {
        "id": annotations["id"],
        "effect": policy["effect"],
        **{bound: annotations.get(bound) for bound in _BOUNDS},
        "principal": scope_key(policy["principal"]),
        "actions": scope_actions(policy["action"]),
        "resource": scope_key(policy["resource"]),
        "named": named_principals(policy),
        "samples": samples(policy),
        "cedar_json": json.dumps(policy, separators=(",", ":")),
    }


if __name__ == "__main__":
    main()
