"""Truth tables: who may do what, written beside the policies and run by `broker policy test`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from broker.authorization.cases import Case, Unreadable, read_table
from broker.authorization.coverage import Coverage, Exercise
from broker.authorization.obligations import lifting
from broker.authorization.rules import PolicyProblem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from broker.authorization.snapshot import PolicySnapshot
    from broker.model import Decision


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that came out otherwise. `expected` and `got` are short texts; `policies` are those that decided."""

    case: Case
    expected: str
    got: str
    policies: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """What running tables showed. `uncovered` are the policies that decided no case."""

    cases: int = 0
    failures: list[Failure] = field(default_factory=list)
    problems: list[PolicyProblem] = field(default_factory=list)
    uncovered: tuple[str, ...] = ()
    coverage: tuple[Exercise, ...] = ()


def run_tables(snapshot: PolicySnapshot, directory: Path) -> Report:
    """Run every `*.yaml` and `*.yml` table in `directory` against `snapshot`. Blocks; raises nothing of its own."""
    report = Report()
    coverage = Coverage(snapshot)
    for path in sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")]):
        try:
            cases = read_table(path.read_bytes(), path.name)
        except OSError as error:
            report.problems.append(PolicyProblem(path.name, 0, 0, f"cannot be read: {error.strerror}"))
            continue
        except Unreadable as error:
            report.problems.append(PolicyProblem(path.name, error.line, 1, error.message))
            continue
        for case in cases:
            decision = ask(snapshot, case)
            coverage.see(case, decision)
            report.cases += 1
            if (expected := describe_expectation(case)) != (got := describe_decision(case, decision)):
                report.failures.append(Failure(case, expected, got, decision.policies))
    report.coverage = tuple(coverage.policies.values())
    report.uncovered = tuple(each.rule.id for each in report.coverage if not each.decides)
    return report


def ask(snapshot: PolicySnapshot, case: Case) -> Decision:
    """Put a case to the policies; its obligations are sought only when the case speaks of them."""
    question = (case.caller, case.action, case.resource, case.context)
    decision = snapshot.decide(*question)
    if decision.allowed or case.obligations is None:
        return decision
    return replace(decision, steps=lifting(snapshot, *question))


def describe_expectation(case: Case) -> str:
    """Write what a case expects, in the form of `describe_decision`."""
    return _describe(case.expect, case.by, case.max_duration, case.obligations)


def describe_decision(case: Case, decision: Decision) -> str:
    """Write a decision as far as the case asks for it; errors always show."""
    bound = decision.max_duration
    text = _describe(
        "allow" if decision.allowed else "deny",
        None if case.by is None else decision.policies,
        None if case.max_duration is None else ("none" if bound is None else str(bound)),
        None if case.obligations is None else decision.obligations,
    )
    return " ".join((text, *(f"error: {error}" for error in decision.errors)))


def _describe(verdict: str, by: Sequence[str] | None, bound: str | None, obligations: Sequence[str] | None) -> str:
    parts = [verdict]
    if by is not None:
        parts.append(f"by {', '.join(sorted(by)) or 'nothing'}")
    if bound is not None:
        parts.append(f"for at most {bound}")
    if obligations is not None:
        parts.append(f"needing {', '.join(sorted(obligations)) or 'nothing more'}")
    return " ".join(parts)
