"""A credential as files: a folder per instance, closed to others, that plain `ssh` or an RDP client can use."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from broker.client.errors import Misconfigured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from broker.client.documents import CredentialDocument

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,253}[A-Za-z0-9]", re.ASCII)


class CredentialFolder:
    """The folder `<output>/<instance>`, mode 0700, whose files are 0600.

    Made before the credential is asked for: nothing is minted that cannot be kept. A folder that was there is used
    again when it is ours alone, and its files are replaced one by one, each whole or not at all.
    """

    def __init__(self, output: str, instance: str) -> None:
        name = instance.rpartition("/")[2]
        if not _FOLDER_NAME.fullmatch(name):
            raise Misconfigured("This is not the name of an instance")
        self._name = name
        self.path = Path(output).absolute() / name
        self._make()

    def write(self, credential: CredentialDocument) -> dict[str, str]:
        """Write the files of the protocol; answer their absolute paths by what they are."""
        if "ssh" in credential:
            return self._write_ssh(credential)
        return self._write_rdp(credential)

    def _write_ssh(self, credential: CredentialDocument) -> dict[str, str]:
        """OpenSSH looks for the certificate of the key `id` in `id-cert.pub`."""
        ssh = credential["ssh"]
        return {
            "certificate": self._replace("id-cert.pub", _line(ssh["certificate"])),
            "known_hosts": self._replace("known_hosts", "".join(map(_line, ssh["known_hosts"]))),
            "private_key": self._replace("id", _line(ssh["private_key"])),
        }

    def _write_rdp(self, credential: CredentialDocument) -> dict[str, str]:
        """The password has no line end, so that it can be piped into a client as it is."""
        rdp = credential["rdp"]
        return {
            "password": self._replace("password", rdp["password"]),
            "rdp": self._replace(f"{self._name}.rdp", rdp["file"]),
        }

    def _make(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            found = self.path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                raise Misconfigured(
                    f"{self.path} is there already and is not a folder of yours alone (mode 0700)"
                ) from None

    def _replace(self, name: str, text: str) -> str:
        """Write a new file beside the old one and put it in its place."""
        path = self.path / name
        fresh = self.path / f".{name}.{os.urandom(8).hex()}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        return str(path)


def ssh_command(credential: CredentialDocument, files: dict[str, str]) -> list[str]:
    """Make the argument list of an `ssh` that uses these files and trusts no host key but the pinned ones."""
    options = {
        "IdentityFile": files["private_key"],
        "CertificateFile": files["certificate"],
        "UserKnownHostsFile": files["known_hosts"],
    }
    fixed = ["GlobalKnownHostsFile=none", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes"]
    stated = [f'{name}="{path.replace("%", "%%")}"' for name, path in options.items()] + fixed
    destination = ["-p", str(credential["port"]), "-l", credential["username"], "--", credential["host"]]
    return ["ssh", *(part for option in stated for part in ("-o", option)), *destination]


def _line(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"
