"""From a directory of `*.cedar` files to a checked, immutable snapshot; or all that is wrong with it at once.

Nothing here parses policy text in this process: a child does, and may die of it. What comes back is JSON.
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from broker.authorization.durations import parse_duration
from broker.authorization.rules import PolicyProblem, PolicyRule, Scope
from broker.authorization.snapshot import PolicySnapshot
from broker.errors import PoliciesUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import timedelta
    from pathlib import Path

MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_TOTAL_BYTES = 32 * 1024 * 1024
MAX_POLICIES = 50_000
CHECK_SECONDS = 180
BREATH = 32
"""After so many policies the loading thread offers the interpreter to the event loop."""

_CHECKER = [sys.executable, "-I", "-B", "-m", "broker.authorization.checking"]


class PoliciesRefused(PoliciesUnavailable):
    """The policies in a directory cannot be used; `problems` names all of them."""

    def __init__(self, problems: Iterable[PolicyProblem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("; ".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """One file as it was read."""

    name: str
    text: str
    sha256: str


def load_snapshot(directory: Path, previous: PolicySnapshot | None = None) -> PolicySnapshot:
    """Read and check every `*.cedar` in `directory`; blocks, so call it off the event loop.

    Files that `previous` holds unchanged are not checked again.

    Raises:
        PoliciesRefused: a file cannot be read or a policy cannot be used; every problem is named.
    """
    problems: list[PolicyProblem] = []
    files = list(_read(directory, problems))
    known = _unchanged(files, previous)
    rules = [rule for group in known.values() for rule in group]
    rules += _check({file.name: file.text for file in files if file.name not in known}, problems)
    # An empty file is more likely one that was cut short than one that was meant, and its forbids would be gone.
    empty = {file.name for file in files} - {rule.file for rule in rules} - {problem.file for problem in problems}
    problems += [
        PolicyProblem(name, 0, 0, "there is no policy in this file; remove it if that is meant") for name in empty
    ]
    problems += _across_files(rules)
    if problems:
        raise PoliciesRefused(problems)
    return PolicySnapshot(sorted(rules, key=lambda rule: (rule.file, rule.line, rule.column)), _hashes(files))


def snapshot_of(text: str, name: str = "policies.cedar") -> PolicySnapshot:
    """Check policies given as text, as if `name` were the only file of a directory.

    Raises:
        PoliciesRefused: as `load_snapshot`.
    """
    problems: list[PolicyProblem] = []
    rules = _check({name: text}, problems)
    problems += _across_files(rules)
    if problems:
        raise PoliciesRefused(problems)
    return PolicySnapshot(rules, {name: hashlib.sha256(text.encode()).hexdigest()})


def _read(directory: Path, problems: list[PolicyProblem]) -> Iterator[PolicyFile]:
    if not directory.is_dir():
        missing = "there is no such directory; copy the shipped `policies` there to begin with"
        problems.append(PolicyProblem(str(directory.absolute()), 0, 0, missing))
        return
    total = 0
    for path in sorted(directory.glob("*.cedar")):
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            problems.append(PolicyProblem(path.name, 0, 0, f"cannot be read: {error.strerror}"))
            continue
        total += len(content)
        if len(content) > MAX_FILE_BYTES or total > MAX_TOTAL_BYTES:
            problems.append(PolicyProblem(path.name, 0, 0, "this is more text than policies may have"))
            return
        try:
            yield PolicyFile(path.name, content.decode("utf-8"), hashlib.sha256(content).hexdigest())
        except UnicodeDecodeError as error:
            line, column = _place_in_bytes(content, error.start)
            problems.append(PolicyProblem(path.name, line, column, "this is not UTF-8"))


def _place_in_bytes(content: bytes, offset: int) -> tuple[int, int]:
    before = content[:offset]
    return before.count(b"\n") + 1, len(before[before.rfind(b"\n") + 1 :].decode("utf-8")) + 1


def _unchanged(files: list[PolicyFile], previous: PolicySnapshot | None) -> dict[str, list[PolicyRule]]:
    if previous is None:
        return {}
    same: dict[str, list[PolicyRule]] = {
        file.name: [] for file in files if previous.files.get(file.name) == file.sha256
    }
    for rule in previous.rules.values():
        if rule.file in same:
            same[rule.file].append(rule)
    return same


def _hashes(files: list[PolicyFile]) -> Mapping[str, str]:
    return {file.name: file.sha256 for file in files}


def _across_files(rules: list[PolicyRule]) -> Iterator[PolicyProblem]:
    by_id = defaultdict(list)
    for rule in rules:
        by_id[rule.id].append(rule)
    for same in by_id.values():
        first = min(same, key=lambda rule: (rule.file, rule.line))
        for rule in same:
            if rule is not first:
                message = f'@id("{rule.id}") is taken by {first.file}:{first.line}'
                yield PolicyProblem(rule.file, rule.line, rule.column, message)
    if len(rules) > MAX_POLICIES:
        yield PolicyProblem("*.cedar", 0, 0, f"there are more than {MAX_POLICIES} policies")


def _check(texts: Mapping[str, str], problems: list[PolicyProblem]) -> list[PolicyRule]:
    """Have a child parse and validate; its findings become rules and problems."""
    if not texts:
        return []
    try:
        # No environment: the child has no use for what the service knows.
        child = subprocess.run(  # noqa: S603 - our own interpreter and module, no shell, no argument from outside
            _CHECKER,
            input=orjson.dumps(texts),
            capture_output=True,
            timeout=CHECK_SECONDS,
            check=False,
            env={},
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        problems.append(PolicyProblem("*.cedar", 0, 0, f"checking took longer than {CHECK_SECONDS} s"))
        return []
    rules: list[PolicyRule] = []
    at = PolicyProblem("*.cedar", 0, 0, "")
    for number, line in enumerate(child.stdout.splitlines()):
        found = _finding(line)
        if isinstance(found, PolicyRule):
            rules.append(found)
        elif found.message:
            problems.append(found)
        else:
            at = found
        if number % BREATH == 0:
            time.sleep(0)
    if child.returncode:
        problems.append(PolicyProblem(at.file, at.line, at.column, _how_it_ended(child)))
    return rules


def _finding(answer: bytes) -> PolicyRule | PolicyProblem:
    """Read one line of the child: a rule, a problem, or (as a problem without message) where it is about to parse."""
    try:
        found = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return PolicyProblem("*.cedar", 0, 0, "the checker was cut short")
    if "at" in found:
        line, column = found["at"]
        return PolicyProblem(found["file"], line, column, "")
    if "message" in found:
        return PolicyProblem(found["file"], found["line"], found["column"], found["message"])
    return rule_from(found)


def rule_from(found: Mapping[str, Any]) -> PolicyRule:
    """Read what the checker says about a sound policy."""
    return PolicyRule(
        id=found["id"],
        file=found["file"],
        line=found["line"],
        column=found["column"],
        text=found["text"],
        effect=found["effect"],
        scope=Scope(principal=found["principal"], actions=tuple(found["actions"]), resource=found["resource"]),
        max_duration=_bound(found["max_duration"]),
        max_staleness=_bound(found["max_staleness"]),
        named=tuple(found["named"]),
        samples=tuple((member, text, pattern) for member, text, pattern in found["samples"]),
        cedar_json=found["cedar_json"],
    )


def _bound(text: str | None) -> timedelta | None:
    return parse_duration(text) if text else None


def _how_it_ended(child: subprocess.CompletedProcess[bytes]) -> str:
    if child.returncode >= 0:
        return f"the checker failed: {child.stderr.decode(errors='replace').strip()[-300:]}"
    name = signal.Signals(-child.returncode).name
    return f"the Cedar parser did not survive this policy ({name}); it may nest too deeply"
