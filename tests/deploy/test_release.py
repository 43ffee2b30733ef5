"""A release: the same files from the same source, and a signature that anybody can check with what every system has."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

NAMESPACE, WHO = "lightsail-credential-broker", "release@example.com"


def build(folder: Path) -> Path:
    subprocess.run([sys.executable, "deploy/release", folder], cwd=ROOT, capture_output=True, check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("release"))


def test_two_builds_are_the_same_bit_for_bit(release: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again")
    names = sorted(path.name for path in release.iterdir())
    assert [name.partition("-")[0] for name in names] == ["SHA256SUMS", *["lightsail_credential_broker"] * 2]
    assert [(again / name).read_bytes() for name in names] == [(release / name).read_bytes() for name in names]


def test_the_source_is_what_a_wheel_can_be_built_from_and_no_more(release: Path) -> None:
    [source] = release.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "broker/__main__.py"} <= names
    tops = {name.partition("/")[0] for name in names}
    assert tops <= {"broker", "policies", "pyproject.toml", "README.md", "CHANGELOG.md", "PKG-INFO", ".gitignore"}


def checks(folder: Path, allowed: Path) -> bool:
    """Check a release as the guide says."""
    verify = ["ssh-keygen", "-Y", "verify", "-f", str(allowed), "-I", WHO, "-n", NAMESPACE, "-s", "SHA256SUMS.sig"]
    with (folder / "SHA256SUMS").open("rb") as sums:
        signed = subprocess.run(verify, cwd=folder, stdin=sums, capture_output=True, check=False)
    same = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, check=False
    )
    return signed.returncode == same.returncode == 0


@pytest.mark.real("ssh-keygen")
def test_a_signed_release_checks_and_a_tampered_one_does_not(release: Path, tmp_path: Path) -> None:
    folder = tmp_path / "got"
    folder.mkdir()
    for path in release.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    key, other = tmp_path / "key", tmp_path / "other"
    for each in (key, other):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", each], check=True)
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(f'{WHO} namespaces="{NAMESPACE}" {key.with_suffix(".pub").read_text()}')

    def sign(with_key: Path) -> None:
        (folder / "SHA256SUMS.sig").unlink(missing_ok=True)
        words = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(with_key), "-n", NAMESPACE, "SHA256SUMS"]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)

    sign(key)
    assert checks(folder, allowed)
    sign(other)
    assert not checks(folder, allowed)
    sign(key)
    [wheel] = folder.glob("*.whl")
    content = wheel.read_bytes()
    wheel.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not checks(folder, allowed)
    wheel.write_bytes(content)
    sums = (folder / "SHA256SUMS").read_text()
    (folder / "SHA256SUMS").write_text(sums.replace("a", "b", 1))
    assert not checks(folder, allowed)
