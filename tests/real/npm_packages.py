"""Packages of npm, by their lock, installed once into a cache folder of this user."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def installed(manifest: Path) -> Path:
    """Install what the package lock in a folder pins, unless it is there already; answer where it is."""
    lock = (manifest / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightsail-credential-broker-tests"
    ready = cache / f"{manifest.name}-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not ready.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _install(manifest, Path(folder) / "packages", ready)
    return ready


def _install(manifest: Path, folder: Path, ready: Path) -> None:
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(manifest / name, folder)
    npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    outcome = subprocess.run(npm, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    if outcome.returncode != 0:
        _without(f"npm ci: {outcome.stderr[-300:]}")
    try:
        folder.rename(ready)  # in one step, so that a test process beside us never sees half of it
    except OSError:
        assert ready.exists()


def _without(reason: str) -> None:
    """Skip, or fail where every real part is required: there may be no package registry in reach."""
    if os.environ.get("BROKER_TEST_REQUIRE") == "all":
        pytest.fail(reason)
    pytest.skip(reason)
