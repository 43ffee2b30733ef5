"""What the code asks of AWS, by AWS's own list of operations, is what the templates grant: no more and no less."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore import xform_name
from botocore.session import get_session

ROOT = Path(__file__).parents[2]
IAM = ROOT / "deploy/iam"

CALLERS = {
    "kms": ["unsealing"],
    "lightsail": ["lightsail"],
    "s3": ["lightsail"],
    "sts": ["lightsail"],
}
"""The packages that hold a client of each service; the emulator and the demonstration are no callers of AWS."""

# What IAM names otherwise than the operation, or asks for because of an argument of it.
ACTIONS = {
    "s3:GetObject": {"s3:GetObject", "s3:GetObjectVersion"},
    "s3:ListObjectVersions": {"s3:ListBucketVersions"},
    "s3:PutObject": {"s3:PutObject", "s3:PutObjectRetention"},
    "sts:AssumeRole": {"sts:AssumeRole", "sts:SetSourceIdentity"},
    "sts:GetCallerIdentity": set(),  # needs no permission
}


def names_in(package: str) -> set[str]:
    """Collect the methods that a package names, and what it names by text: paginators, and the call that mints."""
    found: set[str] = set()
    for path in (ROOT / "broker" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(value=receiver, attr=name) if getattr(receiver, "id", "") != "self":
                    found.add(name)
                case ast.Call(func=ast.Attribute(attr="get_paginator"), args=[ast.Constant(value=str(name))]):
                    found.add(name)
                case ast.AnnAssign(target=ast.Name(id="OPERATION"), value=ast.Constant(value=str(name))):
                    found.add(xform_name(name))
    return found


def asked_of(service: str) -> set[str]:
    """Answer what the code needs of a service, as IAM spells it."""
    names = set().union(*map(names_in, CALLERS[service]))
    operations: list[str] = get_session().get_service_model(service).operation_names
    called = {f"{service}:{operation}" for operation in operations if xform_name(operation) in names}
    return set().union(*(ACTIONS.get(each, {each}) for each in called))


def granted() -> set[str]:
    """Answer every action that a template allows."""
    account: dict[str, Any] = yaml.safe_load((IAM / "account-role.yaml").read_text())["Resources"]
    broker: dict[str, Any] = yaml.safe_load((IAM / "broker-policy.yaml").read_text())["Resources"]
    inner = json.loads(account["Permissions"]["Properties"]["PolicyDocument"]["Fn::Sub"])["Statement"]
    outer = [
        each["Fn::If"][1] if "Fn::If" in each else each
        for each in broker["Policy"]["Properties"]["PolicyDocument"]["Statement"]
    ]
    found: set[str] = set()
    for statement in (*inner, *outer):
        named = statement["Action"]
        found |= {named} if isinstance(named, str) else set(named)
    return found


@pytest.mark.parametrize("service", CALLERS)
def test_what_is_granted_is_what_the_code_calls(service: str) -> None:
    assert {action for action in granted() if action.startswith(f"{service}:")} == asked_of(service)


def test_nothing_else_is_granted() -> None:
    assert {action.partition(":")[0] for action in granted()} == set(CALLERS)
    assert not any("*" in action for action in granted())
