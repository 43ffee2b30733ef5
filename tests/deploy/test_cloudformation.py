"""The stack on ECS: it runs the image as the image wants to be run. The linter reads it with the other templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
RESOURCES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "deploy/cloudformation/broker.yaml").read_text())[
    "Resources"
]


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = RESOURCES[name]["Properties"]
    return found


def container() -> dict[str, Any]:
    [found] = properties("Task")["ContainerDefinitions"]
    assert isinstance(found, dict)
    return found


def test_the_container_has_no_rights_and_its_mounts_are_those_of_the_image() -> None:
    assert f"USER {container()['User']}" in DOCKERFILE
    assert container()["ReadonlyRootFilesystem"]
    assert container()["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
    assert {mount["ContainerPath"] for mount in container()["MountPoints"]} == {"/etc/broker", "/var/lib/broker"}
    assert f"EXPOSE {container()['PortMappings'][0]['ContainerPort']}" in DOCKERFILE
    assert container()["HealthCheck"]["Command"][-1] in DOCKERFILE
    assert not properties("Service")["EnableExecuteCommand"]


def test_a_stop_has_the_time_that_it_takes() -> None:
    [linger] = [each["Value"] for each in container()["Environment"] if each["Name"] == "BROKER__SERVER__LINGER"]
    seconds = int(linger.removesuffix("s"))
    balancer = properties("Targets")
    noticed = balancer["HealthCheckIntervalSeconds"] * balancer["UnhealthyThresholdCount"]
    assert noticed <= seconds < seconds + 25 < container()["StopTimeout"]


def test_what_must_not_be_lost_is_kept_when_the_stack_goes() -> None:
    for name in ("Database", "Files", "StorageKey", "ServicePassword", "Log"):
        assert RESOURCES[name]["DeletionPolicy"] in {"Retain", "Snapshot"}, name
        assert RESOURCES[name]["UpdateReplacePolicy"] in {"Retain", "Snapshot"}, name
    assert properties("Database")["MultiAZ"]
    assert properties("Database")["StorageEncrypted"]
    assert properties("Files")["Encrypted"]


def test_tls_ends_in_the_broker_alone() -> None:
    assert properties("Listener")["Protocol"] == properties("Targets")["Protocol"] == "TCP"
    [database] = [each["Value"] for each in container()["Environment"] if each["Name"] == "BROKER__AUDIT__DATABASE"]
    assert "sslmode=verify-full" in database["Fn::Sub"]
    assert properties("DatabaseParameters")["Parameters"]["rds.force_ssl"] == "1"
