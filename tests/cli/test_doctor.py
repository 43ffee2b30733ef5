"""`broker doctor` with a real ssh and a real sshd; only the service is a double."""

import base64
import json
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_pem_private_key,
)

from broker.client.agent import Fields, string
from broker.client.diagnosis.chain import Question, diagnose
from tests.doubles.client import Answer, Authority, instance, page, problem
from tests.real.door import ROUTE, Door, a_door

from .conftest import TOKEN, Terminal, on_a_terminal

pytestmark = pytest.mark.real("sshd", "ssh", "ssh-keygen")
ME = {"issuer": "corp", "subject": "alice", "groups": ["ops"]}
READY = {"ready": True, "components": {"policies": {"ready": True, "detail": ""}}}
ALLOW = {"decision": "allow", "policies": ["ops-ssh"], "obligations": []}
DENY = {"decision": "deny", "policies": [], "obligations": []}


@pytest.fixture
def door(authority: Authority) -> Iterator[Door]:
    with tempfile.TemporaryDirectory(prefix="door-") as folder, a_door(Path(folder), authority, TOKEN) as opened:
        opened.open()
        opened.service.tell("GET /readyz", Answer(READY))
        opened.service.tell("GET /v1/whoami", Answer(ME))
        opened.service.tell("POST /v1/decisions", Answer(ALLOW))
        yield opened


def causes(door: Door, *words: str, **changes: str | None) -> list[str]:
    """Run the doctor; whatever it finds, no key stays behind and none is shown."""
    ended = door.broker("doctor", "web-1", "--format", "json", *words, **changes)
    report = json.loads(ended.stdout)
    found = [finding["cause"] for finding in report["findings"] if finding["status"] == "problem"]
    assert (ended.returncode, report["ok"]) == ((1, False) if found else (0, True)), ended.stderr
    assert "PRIVATE KEY" not in ended.stdout + ended.stderr
    assert TOKEN not in ended.stdout + ended.stderr
    assert not list((door.folder / "run").glob("broker-*"))
    return found


def test_all_is_well(door: Door) -> None:
    ended = door.broker("doctor", "web-1", "--reason", "disk is full")
    assert ended.returncode == 0, ended.stdout
    assert "PROBLEM" not in ended.stdout
    assert ended.stdout.endswith("Nothing was found that keeps you out of web-1.\n")
    assert "the audit log records that" in ended.stderr
    assert door.asked() == [{"instance": "web-1", "reason": "disk is full"}]
    assert door.sshd.logged("Accepted publickey")
    assert causes(door) == []


def test_the_authority_is_another_one_or_lost(door: Door) -> None:
    certificate(door, principals=[b"somebody", door.sshd.user.encode()])
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    door.sshd.trust(other.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())
    assert causes(door) == ["authority-lost"]


def certificate(door: Door, **changes: Any) -> str:
    """Answer a credential whose certificate is made anew; kept under the service's route."""
    answer = door.credential()
    document: Any = answer.document
    key: Any = load_pem_private_key(document["ssh"]["private_key"].encode(), None)
    members: dict[str, Any] = {
        "principals": [b"somebody"],
        "begins": 0,
        "ends": 4_000_000_000,
        "authority": door.authority,
    } | changes
    made = (
        SSHCertificateBuilder()
        .public_key(key.public_key())
        .type(SSHCertificateType.USER)
        .serial(7)
        .key_id(b"k")
        .valid_principals(members["principals"])
        .valid_after(members["begins"])
        .valid_before(members["ends"])
        .sign(members["authority"])
    )
    line: str = made.public_bytes().decode()
    if changes.get("sha1"):
        line = signed_by_sha1(line, members["authority"])
    document["ssh"]["certificate"] = line
    document["username"] = changes.get("username", document["username"])
    door.service.tell(ROUTE, Answer(document, 201))
    return line


def signed_by_sha1(line: str, authority: rsa.RSAPrivateKey) -> str:
    name, text = line.split()[:2]
    blob = base64.b64decode(text)
    signature = signature_of(blob)
    body = blob[: -len(string(signature))]
    made = authority.sign(body, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 -- what is tested
    return f"{name} " + base64.b64encode(body + string(string(b"ssh-rsa") + string(made))).decode()


def signature_of(blob: bytes) -> bytes:
    """Answer the last string of a certificate: the signature, an algorithm and 256 or 512 bytes."""
    for start in range(len(blob) - 4):
        (length,) = struct.unpack_from(">I", blob, start)
        if start + 4 + length == len(blob) and Fields(blob[start + 4 :]).number() < length:
            return blob[start + 4 :]
    raise AssertionError


def test_the_certificate_has_expired_or_is_not_valid_yet(door: Door) -> None:
    certificate(door, ends=int(time.time()) - 10)
    assert causes(door) == ["certificate-expired"]
    certificate(door, begins=int(time.time()) + 600)
    assert causes(door) == ["certificate-early"]


def test_the_certificate_names_somebody_else(door: Door) -> None:
    certificate(door, principals=[b"ubuntu"])
    assert causes(door) == ["principal"]


def test_the_authority_signs_by_sha_1(door: Door) -> None:
    authority = rsa.generate_private_key(65537, 2048)
    door.sshd.trust(authority.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())
    certificate(door, authority=authority, principals=[b"somebody", door.sshd.user.encode()])
    assert causes(door) == []
    certificate(door, authority=authority, principals=[b"somebody", door.sshd.user.encode()], sha1=True)
    assert causes(door) == ["sha1-authority"]


def test_another_host_key_answers(door: Door) -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    door.open(known_hosts=[f"[127.0.0.1]:{door.sshd.port} {key.decode()}"])
    assert causes(door) == ["host-key-changed"]
    assert not door.sshd.logged("Accepted publickey")
    door.open(known_hosts=[])
    assert causes(door) == ["host-keys-unknown"]


def at_port(door: Door, port: int) -> None:
    document: Any = door.credential().document
    document["port"] = port
    document["ssh"]["known_hosts"] = [
        line.replace(str(door.sshd.port), str(port)) for line in [door.sshd.known_hosts_line]
    ]
    door.service.tell(ROUTE, Answer(document, 201))


@pytest.mark.parametrize(("said", "cause"), [(b"", "port-silent"), (b"HTTP/1.1 400 Bad\r\n\r\n", "not-ssh")])
def test_what_answers_is_silent_or_not_ssh(door: Door, said: bytes, cause: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        at_port(door, listener.getsockname()[1])
        speaker = threading.Thread(target=speak, args=(listener, said), daemon=True)
        speaker.start()
        assert causes(door) == [cause]
        listener.shutdown(socket.SHUT_RDWR)  # wakes it
        speaker.join(10)


def speak(listener: socket.socket, said: bytes) -> None:
    with ExitStack() as held:
        while True:
            try:
                connection = held.enter_context(listener.accept()[0])
            except OSError:
                return
            with suppress(OSError):
                connection.sendall(said)


def test_nothing_listens(door: Door) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    at_port(door, port)
    assert causes(door) == ["port-refused"]


@pytest.mark.parametrize(
    ("members", "cause"),
    [
        ({"obligations": ["reason", "ticket"]}, "obligation"),
        ({"forbidden_by": ["freeze"]}, "forbidden"),
        ({"forbidden_by": ["freeze"], "deciding": [{"id": "freeze", "file": "a.cedar", "line": 3}]}, "forbidden"),
        ({"nearest": {"group": "ops", "policies": ["ops-ssh"], "obligations": []}}, "group-missing"),
        ({}, "no-policy"),
    ],
)
def test_the_policies_say_no(door: Door, members: dict[str, Any], cause: str) -> None:
    door.service.tell("POST /v1/decisions", Answer(DENY | members))
    assert causes(door) == [cause]
    assert door.asked() == []


def test_a_lock_and_a_budget_are_causes_of_their_own(door: Door) -> None:
    for code, status, cause in (("locked", 403, "locked"), ("budget_exhausted", 429, "budget")):
        problem = {"status": status, "code": code, "detail": "laptop stolen"}
        door.service.tell("POST /v1/decisions", Answer(problem, status, {"Content-Type": "application/problem+json"}))
        assert causes(door) == [cause]


def findings(door: Door, *words: str) -> dict[str, dict[str, str]]:
    report = json.loads(door.broker("doctor", *words, "--format", "json").stdout)
    return {finding["cause"]: finding for finding in report["findings"]}


def test_what_to_type_is_the_whole_command(door: Door) -> None:
    door.service.tell("POST /v1/decisions", Answer(DENY | {"obligations": ["mfa", "reason", "ticket"]}))
    found = findings(door, "web-1", "--reason", "it's full")
    assert found["obligation"]["command"] == "broker login && broker ssh web-1 --reason 'it'\"'\"'s full' --ticket ID"
    door.service.tell("POST /v1/decisions", Answer(DENY))
    assert findings(door, "wbe-1")["not-visible"]["command"] == "broker doctor web-1"
    door.service.tell("POST /v1/decisions", Answer(ALLOW))
    door.service.tell("GET /v1/instances", page(instance("web-1", state="stopped")))
    started = findings(door, "web-1")["not-running"]["command"]
    assert started == "aws lightsail start-instance --region eu-west-1 --instance-name web-1"


def test_on_a_terminal_texts_are_filled_and_commands_stay_in_one_piece(door: Door) -> None:
    door.service.tell("POST /v1/decisions", Answer(DENY))
    lines = on_a_terminal(60, Terminal(door.environment, door.folder), "doctor", "wbe-1")
    assert max(map(len, lines)) <= 60
    assert "         type:  broker doctor web-1" in lines
    piped = door.broker("doctor", "wbe-1").stdout
    assert "fix:   check the name against `broker ls`; if it is right, ask the operator for a policy that" in piped


def test_the_instance_is_hidden_ambiguous_or_stopped(door: Door) -> None:
    door.service.tell("GET /v1/instances", page(instance("web-1", state="stopped")))
    assert causes(door) == ["not-running"]
    door.service.tell("GET /v1/instances", page(instance("web-1"), instance("web-1", region="us-east-1")))
    assert causes(door) == ["ambiguous"]
    door.service.tell("GET /v1/instances", page())
    door.service.tell("POST /v1/decisions", Answer(DENY))
    assert causes(door) == ["not-visible"]


@pytest.mark.parametrize(
    ("status", "code", "cause"),
    [
        (409, "host_key_changed", "host-key-changed"),
        (409, "password_not_ready", "not-ready"),
        (422, "key_not_held", "key-not-held"),
        (422, "password_undecryptable", "password-undecryptable"),
        (503, "upstream_unavailable", "upstream"),
        (503, "audit_unavailable", "audit"),
    ],
)
def test_no_credential_is_issued(door: Door, status: int, code: str, cause: str) -> None:
    door.service.tell(ROUTE, problem(status, code, "No."))
    assert causes(door) == [cause]


def test_the_token_is_expired_refused_or_missing(door: Door) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": int(time.time()) - 600}).encode()).rstrip(b"=").decode()
    assert causes(door, BROKER_TOKEN=f"e30.{claims}.e30") == ["token-expired"]
    door.service.tell("GET /v1/whoami", problem(401, "invalid_token", "No."))
    assert causes(door) == ["token-refused"]
    assert causes(door, BROKER_TOKEN=None) == ["token-missing"]


def test_the_service_is_not_trusted_not_there_or_not_well(door: Door) -> None:
    assert causes(door, BROKER_CA_FILE=None) == ["untrusted"]
    assert causes(door, BROKER_URL="https://127.0.0.1:1") == ["unreachable"]
    assert causes(door, BROKER_URL="ftp://127.0.0.1") == ["settings"]
    ill = {"ready": False, "components": {"audit": {"ready": False, "detail": "full"}}}
    door.service.tell("GET /readyz", Answer(ill, 503))
    assert causes(door) == ["service-unready"]


def test_the_clocks_differ_and_the_rest_is_looked_at_all_the_same(door: Door, tmp_path: Path) -> None:
    question = Question("web-1", door.environment, str(tmp_path), clock=lambda: time.time() - 600)
    found = list(diagnose(question))
    assert [finding.cause for finding in found if finding.status == "problem"] == ["clock"]
    assert found[-1].check == "login"
    assert "behind" in next(finding.detail for finding in found if finding.cause)
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())
