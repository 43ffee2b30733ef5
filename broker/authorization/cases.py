"""Reading truth tables: YAML to cases, with an error and a line for everything that is not as it should be.

A table is a list of cases, or a mapping with `cases` and, to be named by them, `instances`; its `time_zone` is that of
`context.local` (UTC unless it says otherwise). A case has

- `as`: `corp/alice`, or as in a policy `User::"corp/alice"` or `Workload::"ci/deploy"`
- `groups`: the caller's groups, `ops` or `corp/ops`; `email`: a verified address
- `on`: a named instance, `account/region/name`, an instance described inline, or for `readAudit` and `lock` an account
- `action`: ssh, rdp, list, approve, readAudit or lock
- `context`: members of the Cedar context that differ from nothing (`mfa: true`, `login_age: 60`, `reason: text` …)
- `expect`: allow or deny; `by`: the `@id`s that decide, exactly
- optionally `name`, `max_duration` (a duration, or none) and `obligations` (what would lift the denial)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from broker.authorization.durations import parse_duration
from broker.model import Action, Caller, Instance, InstanceRef, Obligation, Platform, RequestContext

T = TypeVar("T")

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When a case happens that does not say."""

MAX_TABLE_BYTES = 1024 * 1024

_CASE = ("name", "as", "groups", "email", "on", "action", "context", "expect", "by", "max_duration", "obligations")
_INSTANCE = ("account", "region", "name", "platform", "blueprint", "bundle", "state", "tags", "key_pair")
_CONTEXT = ("now", "source", "mfa", "login_age", "bound", "reason", "ticket", "approvals", "break_glass")
_DEFAULTS = {
    "account": "main",
    "region": "eu-west-1",
    "blueprint": "amazon_linux_2023",
    "bundle": "nano_3_0",
    "state": "running",
    "key_pair": "",
}
_PRINCIPAL = re.compile(r'(User|Workload)::"(.+)"|(.+)')


class Unreadable(Exception):
    """A table, or a case of it, that does not say what it means; `line` is where, from 1."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line of a truth table. `by`, `max_duration` and `obligations` are None when the case does not care."""

    file: str
    line: int
    name: str
    caller: Caller
    action: Action
    resource: Instance | str
    context: RequestContext
    expect: Literal["allow", "deny"]
    by: tuple[str, ...] | None = None
    max_duration: str | None = None
    obligations: tuple[str, ...] | None = None


def read_table(content: bytes, file: str) -> list[Case]:
    """Read one table.

    Raises:
        Unreadable: not YAML, or something in it is unknown, missing or of the wrong kind.
    """
    if len(content) > MAX_TABLE_BYTES:
        raise Unreadable("the table is too large")
    try:
        table = yaml.load(content, _Loader)  # noqa: S506 - a SafeLoader, stricter than the stock one
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        raise Unreadable(f"not YAML: {error}".splitlines()[0], mark.line + 1 if mark else 0) from error
    if isinstance(table, list):
        table = _Mapping({"cases": table}, line=1)
    table = _mapping(table, ("instances", "cases", "time_zone"), "the table", 1)
    instances = _mapping(table.get("instances", _Mapping({}, line=1)), None, "instances", table.line)
    named = {name: _instance(value, str(name), instances.line) for name, value in instances.items()}
    cases = table.get("cases")
    if not isinstance(cases, list) or not cases:
        raise Unreadable("there are no cases", table.line)
    zone = _zone(table)
    return [_case(case, file, named, table.line, zone) for case in cases]


def _zone(table: _Mapping) -> tzinfo:
    name = _typed(table, "time_zone", str, "UTC")
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise Unreadable("`time_zone` is a name such as Europe/Berlin, which this machine knows", table.line) from None


class _Mapping(dict[str, Any]):
    """A YAML mapping that knows its line."""

    def __init__(self, values: Mapping[str, Any], line: int) -> None:
        super().__init__(values)
        self.line = line


class _Loader(yaml.SafeLoader):
    """YAML's plain types, but `on` is a word, a key is text and comes once, and mappings know their lines."""

    def construct_table(self, node: yaml.MappingNode) -> _Mapping:
        """Build one mapping and refuse odd or repeated keys."""
        line = node.start_mark.line + 1
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in values:
                raise Unreadable(f"the key {key!r} is no text or comes twice", key_node.start_mark.line + 1)
            values[key] = self.construct_object(value_node, deep=True)
        return _Mapping(values, line)


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_table)
# YAML 1.1 reads on, off, yes and no as booleans: our key `on` would be `True`.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"true|false"), list("tf"))


def _case(value: object, file: str, named: Mapping[str, Instance], line: int, zone: tzinfo) -> Case:
    case = _mapping(value, _CASE, "a case", line)
    line = case.line
    action = _choice(case, "action", [action.value for action in Action])
    context = _mapping(case.get("context") or _Mapping({}, line=line), _CONTEXT, "context", line)
    now = _moment(context)
    return Case(
        file=file,
        line=line,
        name=str(case.get("name", "")),
        caller=_caller(case, context, now),
        action=Action(action),
        resource=_resource(case, Action(action), named),
        context=RequestContext(
            now=now,
            source_ip=_typed(context, "source", str, "127.0.0.1"),
            reason=_typed(context, "reason", str, ""),
            ticket=_typed(context, "ticket", str, ""),
            approvals=_typed(context, "approvals", int, 0),
            break_glass=_typed(context, "break_glass", bool, False),  # noqa: FBT003 - the default, not a switch
            zone=zone,
        ),
        expect="allow" if _choice(case, "expect", ["allow", "deny"]) == "allow" else "deny",
        by=_texts(case, "by"),
        max_duration=_bound(case),
        obligations=_obligations(case),
    )


def _caller(case: _Mapping, context: _Mapping, now: datetime) -> Caller:
    match = _PRINCIPAL.fullmatch(_typed(case, "as", str, ""))
    issuer, slash, subject = ((match[2] or match[3]) if match else "").partition("/")
    if match is None or not (issuer and slash and subject):
        raise Unreadable("`as` is the caller, such as corp/alice", case.line)
    age = _typed(context, "login_age", int, -1)
    return Caller(
        issuer=issuer,
        subject=subject,
        kind="workload" if match[1] == "Workload" else "user",
        groups=tuple(group.removeprefix(f"{issuer}/") for group in _texts(case, "groups") or ()),
        email=_typed(case, "email", str, "") or None,
        mfa=_typed(context, "mfa", bool, False),  # noqa: FBT003 - the default, not a switch
        bound=_typed(context, "bound", bool, False),  # noqa: FBT003 - the default, not a switch
        authenticated_at=now - timedelta(seconds=age) if age >= 0 else None,
        token_expires_at=now + timedelta(hours=1),
    )


def _resource(case: _Mapping, action: Action, named: Mapping[str, Instance]) -> Instance | str:
    on = case.get("on")
    if isinstance(on, str) and action in {Action.READ_AUDIT, Action.LOCK}:
        return on
    if isinstance(on, str) and on in named:
        return named[on]
    if isinstance(on, str) and (ref := InstanceRef.parse(on)):
        return _instance(_Mapping({"account": ref.account, "region": ref.region}, line=case.line), ref.name, case.line)
    if isinstance(on, dict):
        return _instance(on, "", case.line)
    raise Unreadable("`on` is no instance that the table names, nor account/region/name, nor one described", case.line)


def _instance(value: object, name: str, line: int) -> Instance:
    given = _mapping(value, _INSTANCE, "an instance", line)
    tags = _mapping(given.get("tags") or _Mapping({}, line=given.line), None, "tags", given.line)
    if not all(isinstance(tag, str) for tag in tags.values()):
        raise Unreadable('the value of a tag is text; put it in quotes: "yes", "22"', tags.line)
    texts = {key: _typed(given, key, str, default) for key, default in _DEFAULTS.items()}
    return Instance(
        ref=InstanceRef(texts["account"], texts["region"], _typed(given, "name", str, name) or "server"),
        platform=Platform(_choice(given, "platform", [platform.value for platform in Platform], "LINUX_UNIX")),
        blueprint=texts["blueprint"],
        bundle=texts["bundle"],
        state=texts["state"],
        key_pair=texts["key_pair"],
        tags=tags,
    )


def _moment(context: _Mapping) -> datetime:
    now = context.get("now", NOON)
    if isinstance(now, str):
        try:
            now = datetime.fromisoformat(now)
        except ValueError:
            now = None
    if not isinstance(now, datetime):
        raise Unreadable("`now` is a time such as 2026-01-31T09:30:00Z", context.line)
    return now if now.tzinfo else now.replace(tzinfo=UTC)


def _bound(case: _Mapping) -> str | None:
    text = case.get("max_duration")
    if text is None or text == "none":
        return text
    try:
        return str(parse_duration(str(text)))
    except ValueError as error:
        raise Unreadable(str(error), case.line) from error


def _obligations(case: _Mapping) -> tuple[str, ...] | None:
    names = _texts(case, "obligations")
    for name in names or ():
        if name not in set(Obligation):
            raise Unreadable(f"no such obligation: {name}; there are {', '.join(Obligation)}", case.line)
    return names


def _mapping(value: object, known: Sequence[str] | None, what: str, line: int) -> _Mapping:
    if not isinstance(value, _Mapping):
        raise Unreadable(f"{what} is not a mapping", line)
    if known is not None and (unknown := sorted(value.keys() - set(known))):
        raise Unreadable(f"{what} has no {', '.join(unknown)}; there is {', '.join(known)}", value.line)
    return value


def _typed(mapping: _Mapping, key: str, kind: type[T], default: T) -> T:
    value = mapping.get(key, default)
    # A bool is an int in Python; `approvals: true` is a slip.
    if type(value) is not kind:
        raise Unreadable(f"`{key}` is not of the kind that it should be ({kind.__name__})", mapping.line)
    return value


def _choice(mapping: _Mapping, key: str, choices: Sequence[str], default: str = "") -> str:
    value = mapping.get(key, default)
    if value not in choices:
        raise Unreadable(f"`{key}` is one of {', '.join(choices)}", mapping.line)
    return str(value)


def _texts(mapping: _Mapping, key: str) -> tuple[str, ...] | None:
    values = mapping.get(key)
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Unreadable(f"`{key}` is a list of texts", mapping.line)
    return tuple(values)
