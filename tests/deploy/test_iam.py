import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from broker.lightsail.minting import OPERATION

ROOT = Path(__file__).parents[2]
IAM = ROOT / "deploy/iam"
TEMPLATES = sorted([*IAM.glob("*.yaml"), *(ROOT / "deploy/cloudformation").glob("*.yaml")])


def template(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((IAM / name).read_text())
    return document


def permissions() -> list[dict[str, Any]]:
    """Read the role's policy, whose document is text because a parameter stands in a key."""
    text = template("account-role.yaml")["Resources"]["Permissions"]["Properties"]["PolicyDocument"]["Fn::Sub"]
    statements: list[dict[str, Any]] = json.loads(text)["Statement"]
    return statements


def actions(statement: dict[str, Any]) -> set[str]:
    named = statement["Action"]
    return {named} if isinstance(named, str) else set(named)


def called_operations() -> set[str]:
    """Collect the Lightsail operations that the gateway calls, as IAM spells them."""
    text = (ROOT / "broker/lightsail/gateway.py").read_text()
    methods = re.findall(r"client\.get_paginator\(\"(\w+)\"\)|client\.(get_(?!paginator)\w+)\(", text)
    called = {"".join(word.title() for word in "".join(pair).split("_")) for pair in methods}
    return {f"lightsail:{operation}" for operation in {*called, OPERATION}}


def test_the_templates_are_clean_for_the_linter() -> None:
    lint = Path(sys.executable).with_name("cfn-lint")
    result = subprocess.run([lint, *TEMPLATES], capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stdout) == (0, "")


def test_the_role_may_do_exactly_what_the_gateway_does() -> None:
    granted = set().union(*map(actions, permissions()))
    assert granted == called_operations()
    assert granted == {
        "lightsail:GetBlueprints",
        "lightsail:GetBundles",
        "lightsail:GetInstanceAccessDetails",
        "lightsail:GetInstances",
        "lightsail:GetKeyPairs",
    }


def test_the_role_opens_only_instances_that_carry_the_tag() -> None:
    (opening,) = [s for s in permissions() if "lightsail:GetInstanceAccessDetails" in actions(s)]
    assert actions(opening) == {"lightsail:GetInstanceAccessDetails"}
    assert opening["Resource"] == "arn:${AWS::Partition}:lightsail:*:${AWS::AccountId}:Instance/*"
    assert opening["Condition"] == {"StringEquals": {"aws:ResourceTag/${TagKey}": "${TagValue}"}}


def test_no_parameter_can_break_out_of_the_policy_s_text() -> None:
    parameters = template("account-role.yaml")["Parameters"]
    for name in ("TagKey", "TagValue"):
        pattern = re.compile(parameters[name]["AllowedPattern"])
        assert pattern.fullmatch("team:name")
        assert not any(pattern.fullmatch(f"a{character}b") for character in '"\\${}*?\n')


def test_only_the_broker_may_assume_the_role_with_the_external_id_and_a_name() -> None:
    trust = template("account-role.yaml")["Resources"]["Role"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert [(s["Action"], s["Principal"]) for s in trust] == [
        ("sts:AssumeRole", {"AWS": {"Ref": "BrokerPrincipalArn"}}),
        ("sts:SetSourceIdentity", {"AWS": {"Ref": "BrokerPrincipalArn"}}),
    ]
    assert trust[0]["Condition"] == {"StringEquals": {"sts:ExternalId": {"Ref": "ExternalId"}}}


def test_the_broker_itself_enters_accounts_and_uses_its_master_key_and_nothing_else() -> None:
    document = template("broker-policy.yaml")["Resources"]["Policy"]["Properties"]["PolicyDocument"]
    entering, vault, *anchoring = document["Statement"]
    condition, granted, otherwise = vault["Fn::If"]
    assert (condition, otherwise) == ("HasMasterKey", {"Ref": "AWS::NoValue"})
    assert actions(entering) == {"sts:AssumeRole", "sts:SetSourceIdentity"}
    assert entering["Resource"] == {"Ref": "AccountRoleArns"}
    assert actions(granted) == {"kms:Decrypt", "kms:Encrypt"}
    assert granted["Resource"] == {"Ref": "MasterKeyArn"}
    assert {each["Fn::If"][0] for each in anchoring} == {"HasAnchorBucket"}
    kept = set().union(*(actions(each["Fn::If"][1]) for each in anchoring))
    operations = (ROOT / "docs/operating.md").read_text()
    assert all(f"`{action}`" in operations for action in kept)
    assert kept == {
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListBucketVersions",
        "s3:PutObject",
        "s3:PutObjectRetention",
    }


def test_the_organisation_can_leave_the_broker_as_the_only_way_in() -> None:
    first, second, third = json.loads((IAM / "only-the-broker.scp.json").read_text())["Statement"]
    role = f"arn:aws:iam::*:role/{template('account-role.yaml')['Parameters']['RoleName']['Default']}"
    assert first["Effect"] == second["Effect"] == third["Effect"] == "Deny"
    assert third["Resource"] == role.replace(":role/", ":policy/") + "*"
    assert {"iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion"} <= actions(third)
    assert {"iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy", "iam:DeleteRolePermissionsBoundary"} <= actions(second)
    assert actions(first) == {"lightsail:GetInstanceAccessDetails", "lightsail:DownloadDefaultKeyPair"}
    assert first["Condition"] == {"ArnNotLike": {"aws:PrincipalArn": role}}
    assert second["Resource"] == role


def test_the_readme_says_what_each_action_is_for() -> None:
    readme = (IAM / "README.md").read_text()
    granted = set().union(*map(actions, permissions())) | {"sts:AssumeRole", "sts:SetSourceIdentity", "kms:Decrypt"}
    assert [action for action in sorted(granted) if f"`{action}`" not in readme] == []
