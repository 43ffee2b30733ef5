import asyncio
import base64
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from types_aiobotocore_kms import KMSClient

from broker.errors import KeyNotHeld, KeysUnavailable
from broker.unsealing.custody import Custody, rewrap
from broker.unsealing.keypairs import KeyPairId
from broker.unsealing.masterkeys import KmsMasterKey, LocalMasterKey
from tests.doubles.unsealing import NOW, TEAM_KEY, BrokenKeyService, held, rsa_key

OTHER_KEY = KeyPairId("main", "eu-west-1", "other-key")
TENTH = timedelta(seconds=10)


async def filled(directory: Path, master: LocalMasterKey) -> Custody:
    custody = await Custody.open(directory, master)
    await custody.add(held(0, TEAM_KEY))
    await custody.add(held(1, OTHER_KEY))
    return custody


def contents(directory: Path) -> dict[Path, bytes]:
    """Answer the files there are, sorted by name."""
    return {path: path.read_bytes() for path in sorted(directory.glob("*"))}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def mode(path: Path, wanted: int | None = None) -> int:
    """Answer a file's mode, changed first if a new one is wanted."""
    if wanted is not None:
        path.chmod(wanted)
    return stat.S_IMODE(path.stat().st_mode)


async def one(directory: Path, master: LocalMasterKey) -> Path:
    await (await Custody.open(directory, master)).add(held())
    [path] = contents(directory)
    return path


async def test_kept_keys_are_there_after_a_restart(directory: Path, master: LocalMasterKey) -> None:
    before = await filled(directory, master)
    after = await Custody.open(directory, master)
    assert after.list() == before.list() == (held(1, OTHER_KEY), held(0, TEAM_KEY))
    found = after.get(TEAM_KEY)
    assert found is not None
    assert found.private_key.private_numbers() == rsa_key().private_numbers()


async def test_no_directory_means_no_keys(directory: Path, master: LocalMasterKey) -> None:
    custody = await Custody.open(directory, master)
    assert custody.list() == ()
    assert custody.get(TEAM_KEY) is None
    assert contents(directory) == {}


async def test_a_key_pair_is_account_region_and_name(directory: Path, master: LocalMasterKey) -> None:
    custody = await filled(directory, master)
    assert custody.get(KeyPairId("other", "eu-west-1", "team-key")) is None
    assert custody.get(KeyPairId("main", "eu-west-2", "team-key")) is None


async def test_files_are_for_us_alone(directory: Path, master: LocalMasterKey) -> None:
    path = await one(directory, master)
    assert mode(path) == 0o600
    assert mode(directory) == 0o700


def windows(secret: bytes, size: int = 12) -> set[bytes]:
    return {secret[at : at + size] for at in range(len(secret) - size + 1)}


async def test_a_stolen_file_holds_no_part_of_the_private_key(directory: Path, master: LocalMasterKey) -> None:
    stolen = (await one(directory, master)).read_bytes()
    document = json.loads(stolen)
    raw = stolen + base64.b64decode(document["sealed"]) + base64.b64decode(document["wrapped_key"])
    numbers = rsa_key().private_numbers()
    parts = (numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp, numbers.public_numbers.n)
    for part in parts:
        assert not any(piece in raw for piece in windows(part.to_bytes(256).lstrip(b"\0")))
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        der = rsa_key().private_bytes(Encoding.DER, form, NoEncryption())
        assert not any(piece in raw for piece in windows(der))
        assert not any(base64.b64encode(der[at : at + 24]) in raw for at in range(len(der) - 24))
    assert b"BEGIN" not in raw


async def test_a_long_name_and_a_cased_one_have_their_own_places(directory: Path, master: LocalMasterKey) -> None:
    custody = await Custody.open(directory, master)
    names = ["x" * 255, "Team-Key", "team-key"]
    for name in names:
        await custody.add(held(0, KeyPairId("main", "eu-west-1", name)))
    paths = [path.name.casefold() for path in contents(directory)]
    assert len(set(paths)) == len(names)


async def test_a_new_key_of_the_same_pair_replaces_the_old(directory: Path, master: LocalMasterKey) -> None:
    custody = await filled(directory, master)
    await custody.add(held(2, TEAM_KEY))
    assert custody.get(TEAM_KEY) == held(2, TEAM_KEY)
    assert len(contents(directory)) == 2


async def test_a_removed_key_is_gone_from_memory_and_disk(directory: Path, master: LocalMasterKey) -> None:
    custody = await filled(directory, master)
    await custody.remove(TEAM_KEY)
    assert custody.get(TEAM_KEY) is None
    assert (await Custody.open(directory, master)).list() == (held(1, OTHER_KEY),)
    with pytest.raises(KeyNotHeld, match="team-key"):
        await custody.remove(TEAM_KEY)


async def test_a_wrong_master_key_stops_the_start_and_is_named(directory: Path, master: LocalMasterKey) -> None:
    await filled(directory, master)
    wrong = LocalMasterKey(bytes(32))
    with pytest.raises(KeysUnavailable) as caught:
        await Custody.open(directory, wrong)
    assert master.id in caught.value.cause
    assert wrong.id in caught.value.cause


MEMBERS = ["account", "region", "key_pair", "key_id", "fingerprint_at_aws", "added_at", "master_key"]


@pytest.mark.parametrize("member", MEMBERS)
async def test_a_changed_member_stops_the_start(directory: Path, master: LocalMasterKey, member: str) -> None:
    path = await one(directory, master)
    document = json.loads(path.read_bytes())
    document[member] = held(1).key_id if member == "key_id" else document[member] + "x"
    path.write_text(json.dumps(document))
    with pytest.raises(KeysUnavailable):
        await Custody.open(directory, master)


@pytest.mark.parametrize("member", ["wrapped_key", "sealed"])
async def test_a_changed_bit_of_the_encrypted_parts_stops_the_start(
    directory: Path, master: LocalMasterKey, member: str
) -> None:
    path = await one(directory, master)
    document = json.loads(path.read_bytes())
    blob = base64.b64decode(document[member])
    for at in range(0, len(blob), max(1, len(blob) // 20)):
        changed = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]
        path.write_text(json.dumps({**document, member: base64.b64encode(changed).decode()}))
        with pytest.raises(KeysUnavailable, match="does not open"):
            await Custody.open(directory, master)


async def test_a_key_in_another_s_place_stops_the_start(directory: Path, master: LocalMasterKey) -> None:
    await filled(directory, master)
    first, second = contents(directory)
    second.write_bytes(first.read_bytes())
    with pytest.raises(KeysUnavailable, match="place is elsewhere"):
        await Custody.open(directory, master)


async def test_a_key_that_is_not_the_one_of_its_header_is_not_used(directory: Path, master: LocalMasterKey) -> None:
    custody = await Custody.open(directory, master)
    await custody.add(replace(held(0), key_id=held(1).key_id))
    assert custody.get(TEAM_KEY) is None
    assert "not the one" in custody.problems[0]


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"version": 2}', b'{"version": 1}', b"[" * 30_000, b"x" * 70_000],
)
async def test_a_file_that_is_no_envelope_stops_the_start(
    directory: Path, master: LocalMasterKey, content: bytes
) -> None:
    (await one(directory, master)).write_bytes(content)
    with pytest.raises(KeysUnavailable, match="damaged"):
        await Custody.open(directory, master)


async def test_members_of_another_type_or_name_stop_the_start(directory: Path, master: LocalMasterKey) -> None:
    path = await one(directory, master)
    document = json.loads(path.read_bytes())
    for changed in ({**document, "account": 1}, {**document, "more": "x"}, {**document, "sealed": "*"}):
        path.write_text(json.dumps(changed))
        with pytest.raises(KeysUnavailable, match="damaged"):
            await Custody.open(directory, master)


async def test_a_directory_or_file_open_to_others_stops_the_start(directory: Path, master: LocalMasterKey) -> None:
    path = await one(directory, master)
    mode(path, 0o644)
    with pytest.raises(KeysUnavailable, match="0600"):
        await Custody.open(directory, master)
    mode(path, 0o600)
    mode(directory, 0o755)
    with pytest.raises(KeysUnavailable, match="0700"):
        await Custody.open(directory, master)


async def test_every_problem_is_said_at_once(directory: Path, master: LocalMasterKey) -> None:
    await filled(directory, master)
    for path in contents(directory):
        path.write_text("{}")
    with pytest.raises(KeysUnavailable) as caught:
        await Custody.open(directory, master)
    assert all(path.name in caught.value.cause for path in contents(directory))


async def test_what_another_process_adds_or_removes_is_taken_over(directory: Path, master: LocalMasterKey) -> None:
    here, there = await Custody.open(directory, master), await Custody.open(directory, master)
    await there.add(held())
    assert here.get(TEAM_KEY) is None
    await here.refresh()
    assert here.get(TEAM_KEY) == held()
    await there.add(held(2))
    await here.refresh()
    assert here.get(TEAM_KEY) == held(2)
    await there.remove(TEAM_KEY)
    await here.refresh()
    assert here.get(TEAM_KEY) is None


async def test_a_file_that_breaks_while_running_leaves_what_was_held_and_shows(
    directory: Path, master: LocalMasterKey
) -> None:
    path = await one(directory, master)
    custody = await Custody.open(directory, master)
    whole = path.read_bytes()
    path.write_text("{}")
    await custody.refresh()
    assert custody.get(TEAM_KEY) == held()
    assert custody.problems
    path.write_bytes(whole)
    await custody.refresh()
    assert not custody.problems


async def test_a_directory_that_opens_to_others_while_running_shows_until_mended(
    directory: Path, master: LocalMasterKey
) -> None:
    custody = await filled(directory, master)
    mode(directory, 0o777)
    await custody.refresh()
    assert "0700" in custody.problems[0]
    mode(directory, 0o700)
    await custody.refresh()
    assert not custody.problems


async def test_a_file_that_failed_is_tried_again_after_a_while(directory: Path, master: LocalMasterKey) -> None:
    """The fault may have been KMS's, which leaves no trace on the file."""
    await one(directory, master)
    time = [NOW]
    service = RecoveringMasterKey(master)
    custody = Custody(directory, service, lambda: time[0])
    await custody.refresh()
    assert custody.problems
    await custody.refresh()
    assert service.asked == 1
    time[0] = NOW + TENTH
    await custody.refresh()
    assert not custody.problems
    assert custody.get(TEAM_KEY) == held()


class RecoveringMasterKey:
    """Fails once, then works."""

    def __init__(self, real: LocalMasterKey) -> None:
        self._real = real
        self.id = real.id
        self.asked = 0
        self.wrap = real.wrap

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        self.asked += 1
        if self.asked == 1:
            raise KeysUnavailable("KMS: ThrottlingException")
        return await self._real.unwrap(wrapped, context)


class SilentMasterKey:
    """Does not answer for one key pair, until it is told to."""

    def __init__(self, real: LocalMasterKey, silent_for: str) -> None:
        self._real = real
        self._silent_for = silent_for
        self.id = real.id
        self.wrap = real.wrap
        self.answers = asyncio.Event()

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        if context["key_pair"] == self._silent_for:
            await self.answers.wait()
        return await self._real.unwrap(wrapped, context)


async def test_a_key_that_was_removed_is_dropped_though_the_master_key_does_not_answer(
    directory: Path, master: LocalMasterKey
) -> None:
    elsewhere = await filled(directory, master)
    time = [NOW]
    service = SilentMasterKey(master, "other-key")
    custody = Custody(directory, service, lambda: time[0])
    await custody.refresh(patience=0.2)
    assert custody.list() == (held(0, TEAM_KEY),)
    assert "does not answer" in custody.problems[0]
    await elsewhere.remove(TEAM_KEY)
    await custody.refresh(patience=0.2)
    assert custody.list() == ()
    service.answers.set()
    time[0] += TENTH
    await custody.refresh(patience=0.2)
    assert custody.list() == (held(1, OTHER_KEY),)
    assert not custody.problems


async def test_a_refresh_that_is_cancelled_is_made_up_for_by_the_next(directory: Path, master: LocalMasterKey) -> None:
    """A caller may leave in the middle of one."""
    elsewhere = await filled(directory, master)
    service = SilentMasterKey(master, "team-key")
    custody = Custody(directory, service, lambda: NOW)
    leaving = asyncio.create_task(custody.refresh())
    await asyncio.sleep(0.1)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    service.answers.set()
    await elsewhere.remove(OTHER_KEY)
    await custody.refresh()
    assert custody.list() == (held(0, TEAM_KEY),)


async def test_a_key_that_is_not_held_is_looked_for_once_more_but_not_by_every_request(
    directory: Path, master: LocalMasterKey
) -> None:
    time = [NOW]
    custody = Custody(directory, master, lambda: time[0])
    elsewhere = await Custody.open(directory, master)
    await elsewhere.add(held())
    assert await custody.find(TEAM_KEY) == held()
    assert await custody.find(OTHER_KEY) is None
    await elsewhere.add(held(1, OTHER_KEY))
    assert await custody.find(OTHER_KEY) is None
    time[0] += timedelta(seconds=1)
    assert await custody.find(OTHER_KEY) == held(1, OTHER_KEY)


def move_away(directory: Path) -> None:
    directory.rename(directory.with_name("gone"))


async def test_a_key_that_is_held_costs_no_look_at_the_directory(directory: Path, master: LocalMasterKey) -> None:
    custody = await filled(directory, master)
    move_away(directory)
    assert await custody.find(TEAM_KEY) == held(0, TEAM_KEY)


async def test_many_refreshes_at_once_open_each_file_once(directory: Path, master: LocalMasterKey) -> None:
    await one(directory, master)
    custody = Custody(directory, master, lambda: NOW)
    await asyncio.gather(*(custody.refresh() for _ in range(20)))
    assert custody.list() == (held(),)


async def test_under_a_new_master_key_everything_opens_and_the_old_one_is_useless(
    directory: Path, master: LocalMasterKey
) -> None:
    before = (await filled(directory, master)).list()
    new = LocalMasterKey(bytes(range(32)))
    assert await rewrap(directory, master, new) == (OTHER_KEY, TEAM_KEY)
    assert (await Custody.open(directory, new)).list() == before
    with pytest.raises(KeysUnavailable, match=new.id):
        await Custody.open(directory, master)


async def test_a_rewrap_that_was_cut_short_is_completed_by_the_next(directory: Path, master: LocalMasterKey) -> None:
    await filled(directory, master)
    new = LocalMasterKey(bytes(range(32)))
    with pytest.raises(KeysUnavailable, match="enough"):
        await rewrap(directory, master, FailingSoon(new))
    with pytest.raises(KeysUnavailable):
        await Custody.open(directory, master)
    assert len(await rewrap(directory, master, new)) == 1
    assert len((await Custody.open(directory, new)).list()) == 2


class FailingSoon:
    """Wraps one data key and then no more, as a machine that is switched off."""

    def __init__(self, real: LocalMasterKey) -> None:
        self._real = real
        self.id = real.id
        self.unwrap = real.unwrap
        self._left = 1

    async def wrap(self, data_key: bytes, context: Mapping[str, str]) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise KeysUnavailable("that is enough")
        return await self._real.wrap(data_key, context)


async def test_a_rewrap_that_cannot_open_every_key_changes_nothing(directory: Path, master: LocalMasterKey) -> None:
    await filled(directory, master)
    broken = list(contents(directory))[1]
    broken.write_text("{}")
    before = contents(directory)
    with pytest.raises(KeysUnavailable):
        await rewrap(directory, master, LocalMasterKey(bytes(32)))
    assert contents(directory) == before


async def test_a_failed_write_leaves_the_old_key_and_no_litter(directory: Path, master: LocalMasterKey) -> None:
    await one(directory, master)
    failing = await Custody.open(directory, master)
    with pytest.raises(KeysUnavailable):
        await Custody(directory, KmsMasterKey("arn", BrokenKeyService()), lambda: NOW).add(held(1))
    assert failing.get(TEAM_KEY) == held()
    assert len(contents(directory)) == 1


async def kms_key(client: KMSClient) -> KmsMasterKey:
    made = await client.create_key(Description="broker")
    return KmsMasterKey(made["KeyMetadata"]["Arn"], client)


async def test_keys_are_kept_under_a_key_inside_kms(directory: Path, kms: KMSClient) -> None:
    master = await kms_key(kms)
    await (await Custody.open(directory, master)).add(held())
    assert (await Custody.open(directory, master)).list() == (held(),)
    assert (
        rsa_key().private_numbers() == (await Custody.open(directory, master)).list()[0].private_key.private_numbers()
    )


async def test_kms_refuses_a_data_key_in_another_context(kms: KMSClient) -> None:
    master = await kms_key(kms)
    wrapped = await master.wrap(b"x" * 32, {"key_pair": "team-key"})
    assert await master.unwrap(wrapped, {"key_pair": "team-key"}) == b"x" * 32
    with pytest.raises(KeysUnavailable, match="KMS: InvalidCiphertext"):
        await master.unwrap(wrapped, {"key_pair": "other-key"})


async def test_keys_move_from_a_file_s_master_key_to_kms(
    directory: Path, master: LocalMasterKey, kms: KMSClient
) -> None:
    before = (await filled(directory, master)).list()
    new = await kms_key(kms)
    await rewrap(directory, master, new)
    assert (await Custody.open(directory, new)).list() == before
    with pytest.raises(KeysUnavailable, match="kms:arn"):
        await Custody.open(directory, master)


async def test_a_disk_that_gives_no_way_is_named_and_nothing_half_written_is_left(
    directory: Path, master: LocalMasterKey
) -> None:
    path = await one(directory, master)
    custody = await Custody.open(directory, master)
    path.unlink()
    path.mkdir(mode=0o700)  # what cannot be read, replaced or removed as a file
    (path / "x").touch()
    await custody.refresh()
    assert [problem for problem in custody.problems if "Is a directory" in problem]
    with pytest.raises(KeysUnavailable):
        await custody.add(held())
    with pytest.raises(KeysUnavailable):
        await custody.remove(held().id)
    assert names(directory) == [path.name]


async def test_a_file_in_the_place_of_the_directory_is_named(directory: Path, master: LocalMasterKey) -> None:
    directory.touch(mode=0o600)  # noqa: ASYNC240 - a test may wait for its disk
    with pytest.raises(KeysUnavailable, match="Not a directory"):
        await Custody.open(directory, master)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_what_belongs_to_somebody_else_is_not_used(directory: Path, master: LocalMasterKey) -> None:
    path = await one(directory, master)
    os.chown(path, 12345, 12345)
    with pytest.raises(KeysUnavailable, match="belongs to another user"):
        await Custody.open(directory, master)
