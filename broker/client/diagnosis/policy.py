"""The instance and the policies: which one is meant, may I know of it, may I in, and does it run?"""

from __future__ import annotations

import shlex

from broker.client.diagnosis.finding import Finding, ok, problem
from broker.client.diagnosis.spans import span
from broker.client.errors import BrokerProblem, ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.client import Broker
    from broker.client.diagnosis.chain import Question
    from broker.client.documents import DecisionDocument, InstanceDocument, NearestDocument

OPTIONS = {
    "mfa": "`broker login` with a second factor",
    "fresh_login": "`broker login` again",
    "reason": "--reason TEXT",
    "ticket": "--ticket ID",
    "approval": "an approval by a second person",
}
"""What to type for an obligation."""

CAUSES = {
    "ambiguous_instance": "ambiguous",
    "protocol_not_supported": "wrong-protocol",
    "instance_not_running": "not-running",
    "password_not_ready": "not-ready",
    "host_key_changed": "host-key-changed",
    "key_not_held": "key-not-held",
    "password_undecryptable": "password-undecryptable",
    "upstream_error": "upstream",
    "upstream_unavailable": "upstream",
    "audit_unavailable": "audit",
    "policies_unavailable": "service-unready",
    "overloaded": "rate-limited",
    "rate_limited": "rate-limited",
    "budget_exhausted": "budget",
    "locked": "locked",
    "invalid_token": "token-refused",
}
"""The cause behind a code of the service."""


def refused(check: str, error: ClientError) -> Finding:
    """Turn what the service refused into a finding."""
    if not isinstance(error, BrokerProblem):
        return problem(check, "service-refused", str(error))
    cause = CAUSES.get(error.code, "service-refused")
    if cause == "not-running" and "address" in error.detail:
        cause = "no-address"
    more = [f"choose {', '.join(error.choices)}"] if error.choices else []
    more += [f"try again in {span(error.retry_after)}"] if error.retry_after else []
    more += [f"AWS says {error.upstream_code}"] if error.upstream_code else []
    more += [f"request {error.request_id}"] if error.request_id else []
    return problem(check, cause, "; ".join([f"{error.detail} ({error.code or error.status})", *more]))


def named(instances: Sequence[InstanceDocument], name: str) -> list[InstanceDocument]:
    """Answer the instances that a name may mean."""
    return [each for each in instances if name in {each["name"], _full(each)}]


def decided(broker: Broker, question: Question, *, listed: bool) -> Finding:
    """Ask the policies, and say why not."""
    reason, ticket = question.reason, question.ticket
    try:
        answer = broker.decision(question.instance, protocol=question.protocol, reason=reason, ticket=ticket)
    except ClientError as error:
        return refused("policy", error)
    if answer["decision"] == "allow":
        return ok("policy", f"allowed by {', '.join(_placed(answer, answer['policies']))}")
    if missing := answer["obligations"]:
        detail = f"the policies would allow it with {_missing(missing)}"
        return problem("policy", "obligation", detail, command=question.names.asking(missing, reason, ticket))
    return _denied(answer, listed=listed)


def ambiguous(found: Sequence[InstanceDocument]) -> Finding:
    """Name the instances that a name may mean."""
    choices = [_full(each) for each in found]
    detail = f"there are {len(found)} of that name: {', '.join(choices)}"
    return problem("instance", "ambiguous", detail, command=f"broker doctor {shlex.quote(choices[0])}")


def suggesting(finding: Finding, name: str, listed: Sequence[InstanceDocument]) -> Finding:
    """Say, of a name that nobody knows, which one is like it."""
    if finding.cause != "not-visible":
        return finding
    from difflib import get_close_matches

    known = [text for each in listed for text in (each["name"], _full(each))]
    if close := get_close_matches(name, known, n=1, cutoff=0.7):
        command = f"broker doctor {shlex.quote(close[0])}"
        return problem(finding.check, finding.cause, f"{finding.detail}; did you mean {close[0]}?", command=command)
    return finding


def _denied(answer: DecisionDocument, *, listed: bool) -> Finding:
    if forbidding := answer.get("forbidden_by"):
        return problem("policy", "forbidden", f"a policy forbids it: {', '.join(_placed(answer, forbidding))}")
    if nearest := answer.get("nearest"):
        return problem("policy", "group-missing", _nearest(nearest))
    if listed:
        return problem("policy", "no-policy", "you may see the instance, but no policy lets you in")
    return problem("policy", "not-visible", "it is not there, or not visible to you: the service does not say which")


def _placed(answer: DecisionDocument, policies: Sequence[str]) -> list[str]:
    """Write policies down with the place where they stand, as far as the service tells it."""
    places = {each["id"]: f" ({each['file']}:{each['line']})" for each in answer.get("deciding", [])}
    return [f"{policy}{places.get(policy, '')}" for policy in policies]


def _nearest(nearest: NearestDocument) -> str:
    deciding = f" ({', '.join(nearest['policies'])})" if nearest["policies"] else ""
    beside = f", with {_missing(nearest['obligations'])}" if nearest["obligations"] else ""
    return f"you are not in the group {nearest['group']}, whose members are let in{deciding}{beside}"


def _missing(obligations: Sequence[str]) -> str:
    return " and ".join(OPTIONS.get(each, each) for each in obligations)


def running(found: InstanceDocument) -> Finding:
    """Look at the state that the listing told."""
    if found["state"] != "running":
        return problem("state", "not-running", f"the instance is {found['state']}")
    return ok("state", "the instance is running")


def _full(each: InstanceDocument) -> str:
    return f"{each['account']}/{each['region']}/{each['name']}"
