import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker.errors import KeyNotHeld, Overloaded, PasswordUndecryptable, UpstreamError
from broker.model import AccessDetails, Instance, InstanceRef, Opened, Platform, Protocol, Secret
from broker.unsealing import fingerprints
from broker.unsealing.custody import Custody
from broker.unsealing.masterkeys import LocalMasterKey
from broker.unsealing.vault import Vault
from tests.doubles.unsealing import (
    NOW,
    TEAM_KEY,
    CertificateMaker,
    access,
    aws_fingerprint,
    held,
    rsa_key,
    sealed,
)

PASSWORD = b"kV=3S?(tWn;uE8e*cQ$r7Bd)"
LOOP_LAG = 0.05


@pytest.fixture
async def custody(directory: Path, master: LocalMasterKey) -> Custody:
    custody = await Custody.open(directory, master)
    await custody.add(held())
    return custody


@pytest.fixture
async def vault(custody: Custody) -> AsyncIterator[Vault]:
    vault = Vault(custody, lambda: NOW)
    yield vault
    vault.close()


def listed(details: AccessDetails, **changes: object) -> Instance:
    """Answer the instance of some access details, as the inventory knows it."""
    windows = details.protocol is Protocol.RDP
    instance = Instance(
        ref=details.instance,
        platform=Platform.WINDOWS if windows else Platform.LINUX_UNIX,
        blueprint="",
        bundle="",
        state="running",
    )
    return replace(instance, **changes)  # type: ignore[arg-type]  # the caller names fields


async def opening(vault: Vault, details: AccessDetails, **changes: object) -> Opened:
    """Open access details of an instance that differs in these."""
    return await vault.open(details, listed(details, **changes))


async def test_ssh_access_comes_out_inspected(vault: Vault) -> None:
    opened = await opening(vault, access(CertificateMaker().pair()))
    assert opened.private_key is not None
    assert opened.password is None
    assert opened.expires_at == NOW + timedelta(seconds=780)


async def test_ssh_access_is_inspected_against_the_user_name_that_aws_gave(vault: Vault) -> None:
    with pytest.raises(UpstreamError, match="another user name"):
        await opening(vault, access(CertificateMaker().pair(), username="root"))


async def test_the_password_of_a_custom_key_pair_is_opened(vault: Vault) -> None:
    opened = await opening(vault, access(sealed(PASSWORD)))
    assert opened.password is not None
    assert opened.password.reveal().encode() == PASSWORD
    assert opened.facts.key_pair == "team-key"
    assert (opened.private_key, opened.certificate, opened.expires_at) == (None, "", None)


async def test_the_clear_password_of_a_default_key_pair_needs_no_key(vault: Vault) -> None:
    password = Secret(PASSWORD.decode())
    opened = await opening(vault, access(password))
    assert opened.password is password
    assert opened.facts.key_pair == "LightsailDefaultKeyPair"


@pytest.mark.parametrize("text", ["", "short", "with\nnewline", "pässwort-lang", "x" * 128, "\ud800" * 9])
async def test_a_clear_password_that_is_none_is_refused(vault: Vault, text: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        await opening(vault, access(Secret(text)))
    assert not text or text not in caught.value.cause + caught.value.detail


async def test_no_other_key_is_tried_for_a_pair_that_is_not_held(vault: Vault) -> None:
    """The ciphertext is one that the key in custody could open."""
    with pytest.raises(KeyNotHeld):
        await opening(vault, access(sealed(PASSWORD, key_pair="lost-key")))


@pytest.mark.parametrize(
    "place", [InstanceRef("other", "eu-west-1", "win-1"), InstanceRef("main", "eu-west-2", "win-1")]
)
async def test_a_pair_of_the_same_name_elsewhere_is_another(vault: Vault, place: InstanceRef) -> None:
    with pytest.raises(KeyNotHeld):
        await opening(vault, replace(access(sealed(PASSWORD)), instance=place))


async def test_a_ciphertext_of_another_key_gives_no_password(vault: Vault) -> None:
    with pytest.raises(PasswordUndecryptable):
        await opening(vault, access(sealed(PASSWORD, which=1)))


async def test_the_public_part_of_an_error_does_not_tell_why(vault: Vault) -> None:
    said = set()
    for material in (sealed(PASSWORD, which=1), sealed(b"short"), replace(sealed(PASSWORD), ciphertext=b"x")):
        with pytest.raises(PasswordUndecryptable) as caught:
            await opening(vault, access(material))
        said.add((caught.value.code, caught.value.detail, caught.value.next_step))
    assert len(said) == 1


async def test_a_key_that_another_process_removed_counts_at_the_next_refresh_and_one_added_at_once(
    vault: Vault, custody: Custody, directory: Path, master: LocalMasterKey
) -> None:
    elsewhere = await Custody.open(directory, master)
    await elsewhere.remove(TEAM_KEY)
    await custody.refresh()
    with pytest.raises(KeyNotHeld):
        await opening(vault, access(sealed(PASSWORD)))
    await elsewhere.add(held())
    await asyncio.sleep(0.3)
    assert (await opening(vault, access(sealed(PASSWORD)))).password


async def test_a_password_that_is_sealed_to_another_pair_than_the_instance_s_is_refused(vault: Vault) -> None:
    """Its key is in custody, and would open it."""
    details = access(sealed(PASSWORD))
    assert (await opening(vault, details, key_pair="team-key")).password
    assert (await opening(vault, details, key_pair="")).password
    for other in ("other-key", "LightsailDefaultKeyPair", "Team-Key"):
        with pytest.raises(UpstreamError, match="another key pair than that of the instance"):
            await opening(vault, details, key_pair=other)


async def test_a_pair_that_was_made_anew_at_aws_is_refused_before_anything_is_decrypted(vault: Vault) -> None:
    """The key in custody would open this ciphertext, so nothing but the comparison can refuse it."""
    details = access(sealed(PASSWORD))
    for form in fingerprints.of(rsa_key()).values():
        opened = await opening(vault, details, key_pair="team-key", key_pair_fingerprint=form.hex(":"))
        assert opened.password
    for foreign in (aws_fingerprint(rsa_key(1)), "no fingerprint", "SHA256:x"):
        with pytest.raises(PasswordUndecryptable, match="made anew at AWS") as caught:
            await opening(vault, details, key_pair="team-key", key_pair_fingerprint=foreign)
        assert "broker keys add" in caught.value.next_step


async def test_a_pair_that_aws_does_not_list_any_more_still_opens_what_was_sealed_to_it(vault: Vault) -> None:
    assert (await opening(vault, access(sealed(PASSWORD)), key_pair="team-key", key_pair_fingerprint="")).password


async def test_health_counts_keys_and_names_trouble(vault: Vault, custody: Custody, directory: Path) -> None:
    assert (vault.health().component, vault.health().ready) == ("keys", True)
    assert vault.health().detail == "keys in custody: 1"
    (directory / "stray.json").write_text("{}")
    await custody.refresh()
    assert not vault.health().ready
    assert str(directory) not in vault.health().detail


def spoil(directory: Path) -> None:
    for path in directory.glob("*.json"):
        path.write_text("{}")


async def test_a_damaged_file_whose_key_is_held_shows_but_takes_nothing_away(
    vault: Vault, custody: Custody, directory: Path
) -> None:
    """As after a rewrap under a master key that the running service does not have."""
    spoil(directory)
    await custody.refresh()
    assert vault.health().ready
    assert "cannot be read: 1" in vault.health().detail
    assert (await opening(vault, access(sealed(PASSWORD)))).password


async def test_more_passwords_than_the_queue_holds_are_refused_at_once(custody: Custody) -> None:
    vault = Vault(custody, lambda: NOW, threads=1, queue=2)
    outcomes = await asyncio.gather(
        *(opening(vault, access(sealed(PASSWORD))) for _ in range(20)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, Overloaded)]
    assert 0 < len(refused) < 20
    assert refused[0].retry_after == 1
    assert (await opening(vault, access(sealed(PASSWORD)))).password  # places are given back
    vault.close()


async def test_a_caller_who_leaves_gives_the_place_back(custody: Custody) -> None:
    vault = Vault(custody, lambda: NOW, threads=1, queue=1)
    for _ in range(5):
        leaving = asyncio.create_task(opening(vault, access(sealed(PASSWORD))))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert (await opening(vault, access(sealed(PASSWORD)))).password
    vault.close()


async def test_many_passwords_at_once_leave_the_event_loop_free(directory: Path, master: LocalMasterKey) -> None:
    custody = await Custody.open(directory, master)
    await custody.add(held(bits=4096))
    vault = Vault(custody, lambda: NOW, threads=min(2, os.cpu_count() or 1))
    material = sealed(PASSWORD, bits=4096)
    work = asyncio.gather(*(opening(vault, access(material)) for _ in range(64)))
    loop = asyncio.get_running_loop()
    lags = []
    while not work.done():
        before = loop.time()
        await asyncio.sleep(0.001)
        lags.append(loop.time() - before - 0.001)
    assert all(opened.password for opened in await work)
    lags.sort()
    assert lags[len(lags) // 2] < LOOP_LAG
    vault.close()
