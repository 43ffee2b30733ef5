"""Policies for tests of other rooms: the door of the real ones, with one answer that the test chooses."""

from collections.abc import Iterable
from dataclasses import replace

from broker.model import Action, Caller, Decision, Health, Instance, RequestContext

ALLOW = Decision(allowed=True, policies=("test-permit",), digest="d" * 64)
DENY = Decision(allowed=False, digest="d" * 64)


class FixedPolicies:
    """Answers every question with `answer`, and remembers the questions."""

    def __init__(self, answer: Decision = ALLOW) -> None:
        self.answer = answer
        self.asked: list[tuple[Caller, Action, Instance | str, RequestContext]] = []

    def decide(
        self,
        caller: Caller,
        action: Action,
        resource: Instance | str,
        context: RequestContext,
        *,
        obliging: bool = False,
    ) -> Decision:
        """Answer the chosen decision; without `obliging`, without its obligations."""
        self.asked.append((caller, action, resource, context))
        return self.answer if obliging else replace(self.answer, steps=())

    async def decide_each(
        self, caller: Caller, action: Action, instances: Iterable[Instance], context: RequestContext
    ) -> list[Decision]:
        """Answer the chosen decision for each."""
        return [self.decide(caller, action, instance, context) for instance in instances]

    def health(self) -> Health:
        """Be well."""
        return Health("policies", ready=True)
