import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.client import Misconfigured, Unreachable
from broker.client.files import CredentialFolder
from broker.demo.sshd import Sshd
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
        "ssh_config": 0o600,
    }


def test_a_windows_password_stands_there_as_it_is(tmp_path: Path) -> None:
    files = CredentialFolder(str(tmp_path), "win-1").write(rdp_credential("pass wörd'\"$"))  # type: ignore[arg-type]  # a document has any shape

    assert Path(files["password"]).read_bytes() == "pass wörd'\"$".encode()
    assert Path(files["rdp"]).name == "win-1.rdp"
    assert Path(files["rdp"]).read_bytes().startswith(b"full address:s:127.0.0.1\r\nserver port:i:3389\r\n")
    assert b"alternate shell" not in Path(files["rdp"]).read_bytes()


def test_a_second_credential_takes_the_place_of_the_first(credential: Any, tmp_path: Path) -> None:
    folder = CredentialFolder(str(tmp_path), "web-1")
    folder.write(credential)
    other = f"{credential['host']} ssh-ed25519 AAAA"
    again = credential | {"ssh": credential["ssh"] | {"known_hosts": [other]}}
    files = CredentialFolder(str(tmp_path), "web-1").write(again)

    assert Path(files["known_hosts"]).read_text() == f"{other}\n"
    assert len(list(folder.path.iterdir())) == 4


@pytest.mark.parametrize(
    "line", ["* ssh-ed25519 AAAA", "@cert-authority * ssh-ed25519 AAAA", "other.test ssh-rsa AAAA"]
)
def test_host_keys_of_another_host_are_not_written_down(line: str, credential: Any, tmp_path: Path) -> None:
    spoiled = credential | {"ssh": credential["ssh"] | {"known_hosts": [line]}}
    with pytest.raises(Unreachable, match="host keys"):
        CredentialFolder(str(tmp_path), "web-1").write(spoiled)
    assert not (tmp_path / "web-1" / "id").exists()


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


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "a",
        "a/b",
        "/web-1",
        "a/b/c/web-1",
        "main/../web-1",
        "../x/web-1",
        "main/eu-west-1/..",
        "-rf",
        ".ssh",
        "web\n1",
        "wéb-1",
        "x" * 256,
    ],
)
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


def test_two_instances_of_one_name_do_not_share_a_folder(credential: Any, tmp_path: Path) -> None:
    names = ["web-1", "main/eu-west-1/web-1", "main/us-east-1/web-1"]
    kept = [CredentialFolder(str(tmp_path), name).write(credential)["private_key"] for name in names]

    assert kept == [str(tmp_path / name / "id") for name in names]


def understood(*arguments: str) -> dict[str, str]:
    """Answer what ssh makes of its arguments, which it prints by setting."""
    shown = subprocess.run(["ssh", "-G", *arguments], check=True, capture_output=True, text=True).stdout
    return dict(line.split(" ", 1) for line in shown.splitlines())


@pytest.mark.real("ssh")
def test_ssh_understands_its_configuration_wherever_the_files_are(credential: Any, tmp_path: Path) -> None:
    files = CredentialFolder(f"{tmp_path}/with spaces, 'quotes', $HOME and %h", "main/eu-west-1/web-1").write(
        credential
    )
    settings = understood("-F", files["ssh_config"], "web-1")

    assert (settings["user"], settings["hostname"], settings["port"]) == ("ec2-user", "127.0.0.1", "2222")
    assert settings["stricthostkeychecking"] == "true"
    assert settings["globalknownhostsfile"] == "none"
    assert settings["identitiesonly"] == "yes"
    assert settings["identityfile"].replace("%%", "%") == files["private_key"]
    assert settings["certificatefile"].replace("%%", "%") == files["certificate"]
    assert settings["userknownhostsfile"].replace("%%", "%").strip('"') == files["known_hosts"]
    assert understood("-F", files["ssh_config"], "-l", "root", "web-1")["user"] == "root"


@pytest.mark.real("sshd", "ssh", "ssh-keygen")
def test_ssh_logs_in_by_its_configuration(tmp_path: Path) -> None:
    authority = ed25519.Ed25519PrivateKey.generate()
    ca = authority.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    with Sshd(tmp_path / "sshd", trusted_ca=ca, principals=["ec2-user"]) as sshd:
        credential: Any = ssh_credential(username="ec2-user", port=sshd.port, authority=authority)
        credential["ssh"]["known_hosts"] = [sshd.known_hosts_line]
        files = CredentialFolder(f"{tmp_path}/with space and %h", "web-1").write(credential)
        command = ["ssh", "-F", files["ssh_config"], "-o", "BatchMode=yes", "-l", sshd.user, "web-1", "echo", "in"]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout) == (0, "in\n"), ended.stderr


@pytest.mark.parametrize(
    "odd", [{"username": "x\n  ProxyCommand id"}, {"username": "-x"}, {"host": "h\nMatch all"}, {"host": ""}]
)
def test_what_could_be_a_line_of_its_own_is_refused(odd: dict[str, str], credential: Any, tmp_path: Path) -> None:
    folder = CredentialFolder(str(tmp_path), "web-1")
    with pytest.raises(Unreachable, match="cannot use"):
        folder.write(credential | odd)

    assert not list(folder.path.iterdir())


@pytest.mark.parametrize("odd", ['a"b', "a\\b", "a\nb", "${HOME}"])
def test_a_folder_that_ssh_cannot_name_is_refused(odd: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="--output"):
        CredentialFolder(f"{tmp_path}/{odd}", "web-1")
