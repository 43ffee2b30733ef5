"""The manifests: Kubernetes' own schemas take them, and they agree with the image and with our settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.settings import load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
MANIFESTS = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")


def manifest(name: str) -> Any:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def pod() -> dict[str, Any]:
    found: dict[str, Any] = manifest("deployment")["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_is_what_kubernetes_takes(path: Path, tmp_path: Path) -> None:
    validate = Path(sys.executable).with_name("kubernetes-validate")
    # The tool fails on YAML's anchors across documents, so it gets what they stand for.
    plain = tmp_path / path.name
    plain.write_text(yaml.safe_dump(manifest(path.stem)))
    done = subprocess.run([validate, "--strict", plain], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    plain.write_text(yaml.safe_dump({**manifest(path.stem), "specc": {}}))
    assert subprocess.run([validate, "--strict", plain], capture_output=True, check=False).returncode != 0


def test_the_kustomization_names_every_file_that_is_there() -> None:
    kustomization = manifest("kustomization")
    assert sorted(kustomization["resources"]) == [path.name for path in MANIFESTS]
    named = [file for each in kustomization["configMapGenerator"] for file in each["files"]]
    assert [file for file in named if not (FOLDER / file).is_file()] == []
    assert {each["namespace"] for path in MANIFESTS if "namespace" in (each := manifest(path.stem)["metadata"])} == {
        kustomization["namespace"]
    }


def test_its_settings_are_settings_and_every_file_of_theirs_is_mounted() -> None:
    settings = load(FOLDER / "broker.toml", {"BROKER__SERVER__LINGER": "10s"})
    container = pod()["containers"][0]
    mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
    server = settings.server
    assert server.tls_certificate
    assert server.tls_private_key
    signing_key = Path(settings.audit.signing_key.removeprefix("file:"))
    for path in (
        server.tls_certificate,
        server.tls_private_key,
        settings.policies.directory,
        settings.keys.directory,
        signing_key,
        Path(container["args"][-1]),
    ):
        assert any(mount == path or mount in path.parents for mount in mounts), path
    assert container["ports"][0]["containerPort"] == server.port
    assert manifest("network")["spec"]["ingress"][0]["ports"][0]["port"] == server.port
    assert pod()["terminationGracePeriodSeconds"] > server.linger.total_seconds() + 25
    assert settings.audit.database.startswith("postgresql://")


def test_the_secrets_are_copied_to_where_the_settings_and_the_driver_look_for_them() -> None:
    [copying] = pod()["initContainers"]
    command = copying["command"]
    assert command[:3] == ["install", "--mode=0600", "--target-directory=/run/broker"]
    copies = {f"/run/broker/{Path(source).name}" for source in command[3:]}
    environment = {each["name"]: each["value"] for each in pod()["containers"][0]["env"]}
    settings = load(FOLDER / "broker.toml", {})
    assert copies == {environment["PGPASSFILE"], settings.audit.signing_key.removeprefix("file:")}
    [memory] = [volume for volume in pod()["volumes"] if volume["name"] == "run"]
    assert memory["emptyDir"]["medium"] == "Memory"


def test_the_pods_may_do_next_to_nothing() -> None:
    assert f"USER {pod()['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile").read_text()
    assert pod()["securityContext"]["runAsNonRoot"]
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod()["automountServiceAccountToken"]
    for container in (*pod()["initContainers"], *pod()["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
    assert manifest("namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_policies_that_it_begins_with_are_shipped_ones() -> None:
    for path in (FOLDER / "policies").iterdir():
        assert path.read_text() == (ROOT / "policies" / path.name).read_text()
