import base64
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.errors import KeysUnavailable
from broker.unsealing.masterkeys import (
    KmsMasterKey,
    LocalMasterKey,
    MasterKey,
    create_master_key_file,
    kms_region,
    load_master_key,
)
from tests.doubles.unsealing import BrokenKeyService

CONTEXT = {"account": "main", "region": "eu-west-1", "key_pair": "team-key", "key_id": "ab"}
DATA_KEY = bytes(range(32))
ARN = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "master.key"
    create_master_key_file(path)
    return path


async def test_what_was_wrapped_is_unwrapped_by_the_same_key(key_file: Path) -> None:
    wrapped = await load_master_key(f"file:{key_file}").wrap(DATA_KEY, CONTEXT)
    assert DATA_KEY not in wrapped
    assert await load_master_key(f"file:{key_file}").unwrap(wrapped, CONTEXT) == DATA_KEY


async def test_the_same_data_key_is_never_wrapped_alike(key_file: Path) -> None:
    master = load_master_key(f"file:{key_file}")
    assert await master.wrap(DATA_KEY, CONTEXT) != await master.wrap(DATA_KEY, CONTEXT)


@pytest.mark.parametrize("member", list(CONTEXT))
async def test_another_context_does_not_unwrap(key_file: Path, member: str) -> None:
    master = load_master_key(f"file:{key_file}")
    wrapped = await master.wrap(DATA_KEY, CONTEXT)
    with pytest.raises(KeysUnavailable):
        await master.unwrap(wrapped, CONTEXT | {member: "other"})


async def test_another_key_or_changed_bytes_do_not_unwrap(key_file: Path) -> None:
    master = load_master_key(f"file:{key_file}")
    wrapped = await master.wrap(DATA_KEY, CONTEXT)
    with pytest.raises(KeysUnavailable):
        await LocalMasterKey(bytes(32)).unwrap(wrapped, CONTEXT)
    for damaged in (wrapped[:-1], wrapped + b"x", b"", wrapped[:12], bytes([wrapped[0] ^ 1]) + wrapped[1:]):
        with pytest.raises(KeysUnavailable):
            await master.unwrap(damaged, CONTEXT)


def test_master_keys_are_told_apart_without_showing_them(key_file: Path) -> None:
    key = base64.b64decode(key_file.read_text())
    master = load_master_key(f"file:{key_file}")
    assert master.id == LocalMasterKey(key).id != LocalMasterKey(bytes(32)).id
    assert key.hex()[:8] not in master.id


def test_a_new_file_is_private_random_and_never_overwritten(key_file: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    create_master_key_file(tmp_path / "second.key")
    before = key_file.read_text()
    assert before != (tmp_path / "second.key").read_text()
    with pytest.raises(KeysUnavailable, match="never overwritten"):
        create_master_key_file(key_file)
    assert key_file.read_text() == before


def test_a_place_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(KeysUnavailable, match="No such file"):
        create_master_key_file(tmp_path / "nowhere" / "master.key")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610])
def test_a_file_that_others_may_touch_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(KeysUnavailable, match="0600"):
        load_master_key(f"file:{key_file}")


def test_a_missing_file_says_who_makes_one(tmp_path: Path) -> None:
    with pytest.raises(KeysUnavailable, match="broker init"):
        load_master_key(f"file:{tmp_path / 'none.key'}")


@pytest.mark.parametrize("content", [b"", b"AAAA", b"not base64!", b"\xff\xfe", base64.b64encode(bytes(31)), bytes(32)])
def test_a_file_with_something_else_in_it_is_refused(key_file: Path, content: bytes) -> None:
    key_file.write_bytes(content)
    with pytest.raises(KeysUnavailable, match="no master key"):
        load_master_key(f"file:{key_file}")


def test_the_environment_variable_is_gone_once_it_was_read() -> None:
    environment = {"MASTER": base64.b64encode(bytes(32)).decode(), "OTHER": "stays"}
    assert load_master_key("env:MASTER", environment=environment).id == LocalMasterKey(bytes(32)).id
    assert environment == {"OTHER": "stays"}


def test_the_process_s_own_environment_is_the_default() -> None:
    os.environ["BROKER_TEST_MASTER"] = base64.b64encode(bytes(32)).decode()
    load_master_key("env:BROKER_TEST_MASTER")
    assert "BROKER_TEST_MASTER" not in os.environ


@pytest.mark.parametrize("value", ["", "short", "AAAA"])
def test_a_variable_without_a_key_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(KeysUnavailable) as caught:
        load_master_key("env:MASTER", environment={"MASTER": value})
    assert not value or value not in caught.value.cause


@pytest.mark.parametrize("source", ["", "file", "vault:x", "kms:", "kms:alias/x", f"kms:{ARN}"])
def test_an_unknown_source_or_kms_without_its_client_is_refused(source: str) -> None:
    with pytest.raises(KeysUnavailable, match=r"named by|no master key"):
        load_master_key(source)


def test_the_region_of_a_kms_key_is_that_of_its_arn() -> None:
    assert kms_region(f"kms:{ARN}") == "eu-west-1"
    assert kms_region("kms:arn:aws-us-gov:kms:us-gov-west-1:123456789012:alias/broker") == "us-gov-west-1"
    assert kms_region("file:master.key") is None
    assert kms_region(f"file:{ARN}") is None


class ClientError(Exception):
    """As botocore's: the code is in `response`."""

    def __init__(self, code: str) -> None:
        super().__init__("secret detail")
        self.response = {"Error": {"Code": code}}


async def both_refuse(master: MasterKey, said: str) -> None:
    with pytest.raises(KeysUnavailable, match=said):
        await master.wrap(DATA_KEY, CONTEXT)
    with pytest.raises(KeysUnavailable, match=said):
        await master.unwrap(b"wrapped", CONTEXT)


@pytest.mark.parametrize(
    ("error", "said"),
    [(ClientError("AccessDeniedException"), "KMS: AccessDeniedException"), (TimeoutError("x"), "KMS: TimeoutError")],
)
async def test_a_failing_kms_is_named_by_its_code_alone(error: Exception, said: str) -> None:
    await both_refuse(KmsMasterKey(ARN, BrokenKeyService(error)), f"^{said}$")


@pytest.mark.parametrize("answer", [{}, {"CiphertextBlob": "text", "Plaintext": None}])
async def test_a_kms_that_answers_nonsense_is_refused(answer: Mapping[str, object]) -> None:
    await both_refuse(KmsMasterKey(ARN, BrokenKeyService(answer=answer)), "KMS answered without")


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_none(length: int) -> None:
    with pytest.raises(KeysUnavailable, match="32 bytes"):
        LocalMasterKey(bytes(length))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)
    with pytest.raises(KeysUnavailable, match="Is a directory"):
        load_master_key(f"file:{tmp_path / 'folder'}")


def test_with_its_client_a_key_of_kms_is_itself() -> None:
    assert load_master_key(f"kms:{ARN}", key_service=BrokenKeyService(ValueError())).id == f"kms:{ARN}"
