"""No secret of a run is anywhere but in the answer that it was made for."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from broker.demo.stage import ALICE, BOB, WINDOWS_PASSWORD
from tests.end_to_end.conftest import Scene


def bodies(pem: str) -> list[str]:
    """Answer the lines of a PEM that are its own: the first ones are alike in all keys of a size."""
    return [line for line in pem.splitlines() if "-----" not in line][1:-1]


async def a_run(scene: Scene) -> tuple[list[str], list[str]]:
    """Ask for credentials of every kind, and be refused; answer the secrets, and what was answered beside them."""
    key = (scene.stage.folder / "team-key.pem").read_text()
    options = ["--account", "main", "--region", "eu-west-1", "--private-key", str(scene.stage.folder / "team-key.pem")]
    added = await scene.broker(ALICE, "keys", "add", "team-key", *options, "--config", str(scene.stage.config))
    secrets, told = [WINDOWS_PASSWORD, *bodies(key)], [added.out + added.err]
    for person in (ALICE, BOB):
        token = scene.stage.token_file(person).read_text()
        secrets += [token, token.rpartition(".")[2]]
    for name in ("web-1", "web-dev", "db-1", "win-1"):
        status, document = await scene.post(ALICE, {"instance": name, "reason": "x"})
        assert status == 201, document
        secrets += _taken_out(document)
        told.append(json.dumps(document))
    for name in ("web-1", "no-such"):
        _, document = await scene.post(BOB, {"instance": name, "reason": "x"})
        told.append(json.dumps(document))
    return secrets, told


def _taken_out(document: dict[str, Any]) -> list[str]:
    if "rdp" in document:
        return [str(document["rdp"].pop("password"))]
    return bodies(document["ssh"].pop("private_key"))


def spellings(secret: str) -> set[bytes]:
    raw = secret.encode()
    return {raw, base64.b64encode(raw), raw.hex().encode(), base64.b64encode(base64.b64encode(raw))}


async def test_no_secret_of_a_run_is_in_log_state_metrics_or_any_other_answer(scene: Scene) -> None:
    secrets, told = await a_run(scene)
    assert len(secrets) > 60
    for path in ("/metrics", "/readyz", "/healthz", "/openapi.json", "/v1/audit/events?limit=200", "/v1/instances"):
        told.append(str((await scene.get(ALICE, path))[1]))
    exported = scene.stage.folder.parent / "export.jsonl"
    ran = await scene.broker(ALICE, "audit", "export", "--output", str(exported), "--config", str(scene.stage.config))
    assert ran.code == 0, ran.err
    places = {"answers": "\n".join(told).encode(), "log": (scene.stage.folder / "broker.log").read_bytes()}
    places |= {path.name: path.read_bytes() for path in (exported, *_files(scene.stage.folder / "state"))}
    assert {"audit.db", "export.jsonl", "master.key"} <= set(places)
    assert b'"route":"/v1/credentials"' in places["log"]
    leaks = [
        (place, secret[:6])
        for place, content in places.items()
        for secret in secrets
        for spelling in spellings(secret)
        if spelling in content
    ]
    assert leaks == []


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_the_key_of_the_windows_servers_is_not_in_its_custody_in_clear(scene: Scene) -> None:
    await a_run(scene)
    key = load_pem_private_key((scene.stage.folder / "team-key.pem").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    numbers = key.private_numbers()
    parts = [number.to_bytes((number.bit_length() + 7) // 8, "big") for number in (numbers.d, numbers.p, numbers.q)]
    for path in _files(scene.stage.folder / "state"):
        content = path.read_bytes()
        assert not any(part in content for part in parts), path
