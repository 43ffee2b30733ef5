"""A credential as files: a folder per instance, closed to others, that plain `ssh` or an RDP client can use."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from broker.client.errors import Misconfigured, Unreachable
from broker.client.folders import replace
from broker.client.lease import host_keys
from broker.client.names import HOST, USER, is_well_formed, parts
from broker.client.rdp.file import rdp_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from broker.client.documents import CredentialDocument

SSH_CONFIG = """\
Host {name}
  HostName {host}
  Port {port}
  User {user}
  IdentityFile {private_key}
  CertificateFile {certificate}
  UserKnownHostsFile {known_hosts}
  GlobalKnownHostsFile none
  IdentitiesOnly yes
  StrictHostKeyChecking yes
"""
"""Trusts no host key but the pinned ones, and offers no key but the issued one."""


class CredentialFolder:
    """The folder `<output>/<instance>`, mode 0700, whose files are 0600.

    An instance that was asked for as `account/region/name` has the folder of this path, so that two of one name never
    share a folder. Made before the credential is asked for: nothing is minted that cannot be kept. A folder that was
    there is used again when it is ours alone, and its files are replaced one by one, each whole or not at all.
    """

    def __init__(self, output: str, instance: str) -> None:
        *place, self.name = parts(instance)
        if not is_well_formed(instance):
            raise Misconfigured("this is not the name of an instance")
        self.path = Path(output).absolute().joinpath(*place, self.name)
        if not str(self.path).isprintable() or any(text in str(self.path) for text in ('"', "\\", "${")):
            raise Misconfigured('--output: ssh cannot use a folder with a line end, ", \\ or ${ in its name')
        self._make()

    def write(self, credential: CredentialDocument) -> dict[str, str]:
        """Write the files of the protocol; answer their absolute paths by what they are."""
        if "ssh" in credential:
            return self._write_ssh(credential)
        return self._write_rdp(credential)

    def _write_ssh(self, credential: CredentialDocument) -> dict[str, str]:
        """OpenSSH looks for the certificate of the key `id` in `id-cert.pub`."""
        ssh = credential["ssh"]
        files = {
            "certificate": str(self.path / "id-cert.pub"),
            "known_hosts": str(self.path / "known_hosts"),
            "private_key": str(self.path / "id"),
        }
        config = _ssh_config(self.name, credential, files)
        known_hosts = host_keys(ssh["known_hosts"], credential["host"], int(credential["port"]))
        self._replace("id-cert.pub", _line(ssh["certificate"]))
        self._replace("known_hosts", known_hosts)
        self._replace("id", _line(ssh["private_key"]))
        return files | {"ssh_config": self._replace("ssh_config", config)}

    def _write_rdp(self, credential: CredentialDocument) -> dict[str, str]:
        """The password has no line end, so that it can be piped into a client as it is."""
        rdp = credential["rdp"]
        written = rdp_file(credential["host"], credential["port"], credential["username"])
        return {
            "password": self._replace("password", rdp["password"]),
            "rdp": self._replace(f"{self.name}.rdp", written),
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
        replace(path, text)
        return str(path)


def _ssh_config(name: str, credential: CredentialDocument, files: dict[str, str]) -> str:
    """Write what `ssh -F` reads. It runs commands that stand in there, so nothing odd may get in."""
    host, user = credential["host"], credential["username"]
    if not HOST.fullmatch(host) or not USER.fullmatch(user):
        raise Unreachable("the service answered a host or a user name that ssh cannot use")
    stated = {what: f'"{path.replace("%", "%%")}"' for what, path in files.items()}
    return SSH_CONFIG.format(name=name, host=host, port=int(credential["port"]), user=user, **stated)


def _line(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"
