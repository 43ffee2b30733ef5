import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from broker.client import Misconfigured
from broker.client.files import CredentialFolder, ssh_command
from tests.doubles.client import rdp_credential, ssh_credential


@pytest.fixture(scope="module")
def credential() -> Any:  # a document of JSON
    return ssh_credential()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.real("ssh-keygen")
def test_openssh_reads_what_is_written(credential: Any, tmp_path: Path) -> None:
    files = CredentialFolder(str(tmp_path), "main/eu-west-1/web-1").write(credential)
    for arguments in (["-l", "-f", files["private_key"]], ["-l", "-f", files["known_hosts"]]):
        subprocess.run(["ssh-keygen", *arguments], check=True, capture_output=True)

    shown = subprocess.run(["ssh-keygen", "-Lf", files["certificate"]], check=True, capture_output=True, text=True)
    assert "ec2-user" in shown.stdout
    derived = subprocess.run(["ssh-keygen", "-yf", files["private_key"]], check=True, capture_output=True, text=True)
    assert derived.stdout.startswith("ssh-rsa ")


def test_only_the_owner_can_read_them(credential: Any, tmp_path: Path) -> None:
    folder = CredentialFolder(f"{tmp_path}/new/place", "web-1")
    folder.write(credential)

    assert mode(folder.path) == 0o700
    assert {path.name: mode(path) for path in folder.path.iterdir()} == {
        "id": 0o600,
        "id-cert.pub": 0o600,
        "known_hosts": 0o600,
    }


def test_a_windows_password_stands_there_as_it_is(tmp_path: Path) -> None:
    files = CredentialFolder(str(tmp_path), "win-1").write(rdp_credential("pass wörd'\"$"))  # type: ignore[arg-type]  # a document has any shape

    assert Path(files["password"]).read_bytes() == "pass wörd'\"$".encode()
    assert Path(files["rdp"]).name == "win-1.rdp"
    assert Path(files["rdp"]).read_bytes() == b"full address:s:127.0.0.1\r\n"


def test_a_second_credential_takes_the_place_of_the_first(credential: Any, tmp_path: Path) -> None:
    folder = CredentialFolder(str(tmp_path), "web-1")
    folder.write(credential)
    again = credential | {"ssh": credential["ssh"] | {"known_hosts": ["other"]}}
    files = CredentialFolder(str(tmp_path), "web-1").write(again)

    assert Path(files["known_hosts"]).read_text() == "other\n"
    assert len(list(folder.path.iterdir())) == 3


def test_a_link_in_the_folder_is_replaced_and_not_followed(credential: Any, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = CredentialFolder(str(tmp_path), "web-1")
    (folder.path / "id").symlink_to(precious)
    folder.write(credential)

    assert precious.read_text() == "mine"
    assert not (folder.path / "id").is_symlink()


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o702])
def test_a_folder_that_others_can_enter_is_refused(mode: int, tmp_path: Path) -> None:
    (tmp_path / "web-1").mkdir()
    (tmp_path / "web-1").chmod(mode)
    with pytest.raises(Misconfigured, match="0700"):
        CredentialFolder(str(tmp_path), "web-1")


def test_a_link_instead_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "web-1").symlink_to(tmp_path / "real")
    with pytest.raises(Misconfigured):
        CredentialFolder(str(tmp_path), "web-1")


@pytest.mark.parametrize("name", ["..", ".", "", "a", "main/eu-west-1/..", "-rf", ".ssh", "web\n1", "wéb-1", "x" * 256])
def test_what_names_no_instance_names_no_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        CredentialFolder(str(tmp_path), name)

    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_a_write_that_fails(credential: Any, tmp_path: Path) -> None:
    folder = CredentialFolder(str(tmp_path), "web-1")
    (folder.path / "known_hosts" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="known_hosts"):
        folder.write(credential)

    assert not [path for path in folder.path.iterdir() if path.name.startswith(".")]


@pytest.mark.real("ssh")
def test_ssh_understands_the_command_wherever_the_files_are(credential: Any, tmp_path: Path) -> None:
    files = CredentialFolder(f"{tmp_path}/with spaces and %h", "web-1").write(credential)
    command = ssh_command(credential, files)
    shown = subprocess.run([command[0], "-G", *command[1:]], check=True, capture_output=True, text=True).stdout
    settings = dict(line.split(" ", 1) for line in shown.splitlines())

    assert (settings["user"], settings["hostname"], settings["port"]) == ("ec2-user", "127.0.0.1", "2222")
    assert settings["stricthostkeychecking"] == "true"
    assert settings["globalknownhostsfile"] == "none"
    assert settings["identitiesonly"] == "yes"
    assert settings["identityfile"].replace("%%", "%") == files["private_key"]
    assert settings["certificatefile"].replace("%%", "%") == files["certificate"]
    assert settings["userknownhostsfile"].replace("%%", "%").strip('"') == files["known_hosts"]
