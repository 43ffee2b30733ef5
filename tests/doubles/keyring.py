"""A keyring that keeps its secrets as files in the folder `TEST_KEYRING`: insecure, and only for tests."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError


class FolderKeyring(KeyringBackend):
    """Chosen by `PYTHON_KEYRING_BACKEND`."""

    priority = 1

    def _path(self, service: str, username: str) -> Path:
        folder = Path(os.environ["TEST_KEYRING"])
        folder.mkdir(exist_ok=True)
        return folder / hashlib.sha256(f"{service} {username}".encode()).hexdigest()

    def get_password(self, service: str, username: str) -> str | None:
        path = self._path(service, username)
        return path.read_text() if path.exists() else None

    def set_password(self, service: str, username: str, password: str) -> None:
        self._path(service, username).write_text(password)

    def delete_password(self, service: str, username: str) -> None:
        path = self._path(service, username)
        if not path.exists():
            raise PasswordDeleteError(username)
        path.unlink()
