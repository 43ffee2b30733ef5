import asyncio
import time
import tracemalloc
from datetime import UTC
from uuid import UUID

import pytest

from broker.errors import (
    BrokerError,
    Denied,
    InstanceNotRunning,
    PasswordNotReady,
    UpstreamError,
    UpstreamUnavailable,
)
from broker.lightsail.gateway import Gateway
from broker.lightsail.probing import Probed, probe
from broker.lightsail.session import ROLE_SESSION, Account, AccountSession, Tuning
from broker.model import Platform, Protocol, SealedPassword, Secret, SshKeyPair, utc_now
from tests.doubles.lightsail import LINUX, QUICK, WINDOWS, WatchedEmulator, account, instance
from tests.lightsail.conftest import Emulating

MINT = "GetInstanceAccessDetails"
ROLE = "arn:aws:iam::123456789012:role/broker"


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def failure_of(gateway: Gateway, name: str = "web-1") -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        await gateway.access_details(instance(name), Protocol.SSH)
    return caught.value


async def test_ssh_details_of_a_linux_instance_are_a_key_and_its_certificate(gateway: Gateway) -> None:
    details = await gateway.access_details(instance("web-1"), Protocol.SSH)

    assert (details.username, details.host) == ("ec2-user", "127.0.0.1")
    assert isinstance(details.material, SshKeyPair)
    assert details.material.private_key.reveal().startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert details.material.certificate.startswith("ssh-rsa-cert-v01@openssh.com ")
    assert details.material.expires_at is not None
    assert details.material.expires_at.tzinfo is UTC
    assert [key.algorithm for key in details.host_keys] == ["ssh-ed25519"]
    assert details.upstream_request_id


async def test_rdp_details_with_a_custom_key_pair_are_a_sealed_password(gateway: Gateway) -> None:
    details = await gateway.access_details(instance("win-1", Platform.WINDOWS), Protocol.RDP)

    assert details.username == "Administrator"
    assert isinstance(details.material, SealedPassword)
    assert (details.material.key_pair, len(details.material.ciphertext)) == ("team-key", 256)
    assert [key.algorithm for key in details.host_keys] == ["x509-cert"]


async def test_rdp_details_with_the_default_key_pair_are_the_password(gateway: Gateway) -> None:
    details = await gateway.access_details(instance("win-2", Platform.WINDOWS), Protocol.RDP)

    assert isinstance(details.material, Secret)
    assert details.material.reveal() == "An0ther-Admin-Pw"


async def test_an_instance_that_is_not_running_says_so_and_when_to_come_back(emulating: Emulating) -> None:
    async with (
        emulating(LINUX | {"name": "web-1", "state": "stopped"}) as emulator,
        Gateway([account(emulator.url)], QUICK) as gateway,
    ):
        failure = await failure_of(gateway)
    assert isinstance(failure, InstanceNotRunning)
    assert failure.retry_after


async def test_a_windows_password_that_is_not_there_yet_says_when_to_come_back(emulating: Emulating) -> None:
    async with (
        emulating(WINDOWS | {"name": "win-3", "ready_after": "1h"}) as emulator,
        Gateway([account(emulator.url)], QUICK) as gateway,
    ):
        with pytest.raises(PasswordNotReady) as caught:
            await gateway.access_details(instance("win-3", Platform.WINDOWS), Protocol.RDP)
    assert caught.value.retry_after == 30


async def test_an_instance_that_vanished_is_answered_as_one_that_is_forbidden(gateway: Gateway) -> None:
    assert isinstance(await failure_of(gateway, "web-9"), Denied)


async def test_the_wrong_protocol_for_a_platform_is_an_upstream_error(gateway: Gateway) -> None:
    with pytest.raises(UpstreamError) as caught:
        await gateway.access_details(instance("web-1"), Protocol.RDP)
    assert caught.value.upstream_code == "InvalidInputException"


async def test_an_ipv6_only_instance_has_its_ipv6_address_for_a_host(emulating: Emulating) -> None:
    only_ipv6 = LINUX | {"name": "edge-1", "bundle": "nano_ipv6_3_0", "ipv6": ["2001:db8::17"]}
    async with emulating(only_ipv6) as emulator, Gateway([account(emulator.url)], QUICK) as gateway:
        details = await gateway.access_details(instance("edge-1"), Protocol.SSH)
    assert (details.ip_address, details.host) == (None, "2001:db8::17")


async def test_lists_are_read_to_their_last_page(emulating: Emulating) -> None:
    servers = [LINUX | {"name": f"web-{number}"} for number in range(23)]
    async with (
        emulating(*servers, page_size=5) as emulator,
        Gateway([account(emulator.url)], QUICK) as gateway,
    ):
        found = await gateway.instances("main", "eu-west-1")
        assert {record.ref.name for record in found} == {server["name"] for server in servers}
        assert [call.operation for call in emulator.calls].count("GetInstances") == 5

        blueprints = {item.blueprint_id: item for item in await gateway.blueprints("main", "eu-west-1")}
        assert blueprints["windows_server_2022"].platform is Platform.WINDOWS
        assert not blueprints["centos_7_1901_01"].is_active

        bundles = {item.bundle_id: item for item in await gateway.bundles("main", "eu-west-1")}
        assert bundles["medium_win_3_0"].supported_platforms == (Platform.WINDOWS,)
        assert bundles["medium_win_3_0"].can_run(blueprints["windows_server_2022"])


async def test_key_pairs_include_the_default_one(gateway: Gateway) -> None:
    pairs = {pair.name: pair.fingerprint for pair in await gateway.key_pairs("main", "eu-west-1")}
    assert set(pairs) == {"team-key", "LightsailDefaultKeyPair"}
    assert all(":" in fingerprint for fingerprint in pairs.values())


@pytest.mark.parametrize("kind", ["throttle", "status:500"])
async def test_two_refusals_are_waited_out_and_all_attempts_are_told(
    gateway: Gateway, emulator: WatchedEmulator, kind: str
) -> None:
    emulator.fault(kind, times=2)
    details = await gateway.access_details(instance("web-1"), Protocol.SSH)
    assert details.username == "ec2-user"
    assert details.attempts == emulator.counts[MINT] == 3


async def test_one_attempt_is_told_as_one(gateway: Gateway, emulator: WatchedEmulator) -> None:
    details = await gateway.access_details(instance("web-1"), Protocol.SSH)
    assert details.attempts == emulator.counts[MINT] == 1


@pytest.mark.parametrize("kind", ["throttle", "status:500", "error:ServiceException"])
async def test_trouble_without_end_is_tried_three_times_and_then_called_unavailable(
    gateway: Gateway, emulator: WatchedEmulator, kind: str
) -> None:
    emulator.fault(kind)
    failure = await failure_of(gateway)
    assert isinstance(failure, UpstreamUnavailable)
    assert failure.retry_after
    assert failure.attempts == emulator.counts[MINT] == 3


@pytest.mark.parametrize("kind", ["delay:1500ms", "drop"])
async def test_a_mint_that_aws_may_have_served_is_not_sent_again(
    gateway: Gateway, emulator: WatchedEmulator, kind: str
) -> None:
    emulator.fault(kind)
    failure = await failure_of(gateway)
    assert isinstance(failure, UpstreamUnavailable)
    assert failure.retry_after
    await asyncio.sleep(1)
    assert failure.attempts == emulator.counts[MINT] == 1


async def test_a_mint_is_not_sent_again_after_it_was_throttled_and_then_lost(
    gateway: Gateway, emulator: WatchedEmulator
) -> None:
    emulator.fault("throttle", times=1)
    emulator.fault("drop")
    failure = await failure_of(gateway)
    assert failure.attempts == emulator.counts[MINT] == 2
    assert failure.upstream_request_id


async def test_a_list_that_was_lost_is_asked_for_again(gateway: Gateway, emulator: WatchedEmulator) -> None:
    emulator.fault("drop", operation="GetInstances", times=2)
    assert len(await gateway.instances("main", "eu-west-1")) == 3
    assert emulator.counts["GetInstances"] == 3


@pytest.mark.parametrize("kind", ["throttle", "error:AccessDeniedException", "error:NotFoundException"])
async def test_a_failure_carries_the_request_id_of_aws(gateway: Gateway, emulator: WatchedEmulator, kind: str) -> None:
    emulator.fault(kind)
    told = (await failure_of(gateway)).upstream_request_id
    assert told == str(UUID(told))


async def test_each_of_many_calls_at_once_tells_its_own_attempts(gateway: Gateway, emulator: WatchedEmulator) -> None:
    emulator.fault("throttle", times=5)
    answers = await asyncio.gather(*(gateway.access_details(instance(), Protocol.SSH) for _ in range(10)))
    assert sum(answer.attempts for answer in answers) == emulator.counts[MINT] == 15
    assert len({answer.upstream_request_id for answer in answers}) == 10


async def test_a_throttled_call_carries_the_code_of_aws(gateway: Gateway, emulator: WatchedEmulator) -> None:
    emulator.fault("throttle")
    assert (await failure_of(gateway)).upstream_code == "ThrottlingException"


async def test_an_answer_that_is_cut_off_is_an_upstream_error(gateway: Gateway, emulator: WatchedEmulator) -> None:
    emulator.fault("malformed")
    assert isinstance(await failure_of(gateway), UpstreamError)
    assert emulator.counts[MINT] == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AccessDeniedException", UpstreamError),
        ("UnrecognizedClientException", UpstreamError),
        ("InvalidInputException", UpstreamError),
        ("AccountSetupInProgressException", UpstreamUnavailable),
        ("RegionSetupInProgressException", UpstreamUnavailable),
    ],
)
async def test_what_does_not_pass_by_itself_is_not_tried_again(
    gateway: Gateway, emulator: WatchedEmulator, code: str, kind: type[BrokerError]
) -> None:
    emulator.fault(f"error:{code}")
    failure = await failure_of(gateway)
    assert isinstance(failure, kind)
    assert failure.upstream_code == code
    assert emulator.counts[MINT] == 1


async def test_a_call_ends_at_its_deadline(emulator: WatchedEmulator) -> None:
    emulator.fault("delay:30s")
    tuning = Tuning(deadline=0.5, read_timeout=20)
    async with Gateway([account(emulator.url)], tuning) as gateway:
        began = time.monotonic()
        assert isinstance(await failure_of(gateway), UpstreamUnavailable)
        assert time.monotonic() - began == pytest.approx(0.5, abs=0.2)


async def test_retries_and_a_renewal_together_end_at_the_deadline_too(emulator: WatchedEmulator) -> None:
    emulator.fault("throttle", times=1)
    emulator.fault("error:ExpiredTokenException", times=1)
    emulator.fault("delay:10s")
    async with Gateway([account(emulator.url, role_arn=ROLE)], Tuning(deadline=2.5, read_timeout=20)) as gateway:
        began = time.monotonic()
        failure = await failure_of(gateway)
        assert time.monotonic() - began == pytest.approx(2.5, abs=0.5)
    assert isinstance(failure, UpstreamUnavailable)
    assert failure.attempts == emulator.counts[MINT] == 3


async def test_a_silent_aws_is_given_up_after_the_read_timeout(emulator: WatchedEmulator) -> None:
    emulator.fault("delay:30s")
    async with Gateway([account(emulator.url)], Tuning(deadline=20, read_timeout=0.1)) as gateway:
        assert isinstance(await failure_of(gateway), UpstreamUnavailable)
    assert emulator.counts[MINT] == 1


async def test_nobody_listening_is_unavailable_and_was_never_asked() -> None:
    async with Gateway([account("http://127.0.0.1:9")], QUICK) as gateway:
        failure = await failure_of(gateway)
    assert isinstance(failure, UpstreamUnavailable)
    assert failure.attempts == 0


async def test_a_region_that_is_not_configured_is_an_upstream_error(gateway: Gateway) -> None:
    with pytest.raises(UpstreamError):
        await gateway.instances("main", "us-east-1")


async def test_after_an_outage_callers_are_refused_at_once_instead_of_tried(
    gateway: Gateway, emulator: WatchedEmulator
) -> None:
    emulator.fault("drop")
    failures = await asyncio.gather(*(failure_of(gateway) for _ in range(10)))
    assert all(isinstance(failure, UpstreamUnavailable) for failure in failures)
    before = emulator.counts[MINT]

    began = time.monotonic()
    assert all([isinstance(await failure_of(gateway), UpstreamUnavailable) for _ in range(50)])
    assert time.monotonic() - began < 0.5
    assert emulator.counts[MINT] == before


async def test_one_region_that_is_down_leaves_the_others_alone(emulator: WatchedEmulator) -> None:
    down = Account(name="other", regions=("us-east-1",), endpoint_url="http://127.0.0.1:9")
    async with Gateway([account(emulator.url), down], QUICK) as gateway:
        for _ in range(2):
            with pytest.raises(UpstreamUnavailable):
                await gateway.instances("other", "us-east-1")
            assert await gateway.instances("main", "eu-west-1")


async def test_a_storm_of_cancelled_calls_leaves_the_pool_healthy(emulator: WatchedEmulator) -> None:
    emulator.fault("delay:300ms", times=100)
    async with Gateway([account(emulator.url)], Tuning(max_connections=20)) as gateway:
        for _ in range(5):
            calls = [asyncio.create_task(gateway.access_details(instance(), Protocol.SSH)) for _ in range(20)]
            await asyncio.sleep(0.05)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        emulator.mend()
        answers = await asyncio.gather(*(gateway.access_details(instance(), Protocol.SSH) for _ in range(20)))
    assert len(answers) == 20


async def test_more_calls_than_connections_are_refused_instead_of_queued(emulator: WatchedEmulator) -> None:
    emulator.fault("delay:300ms")
    async with Gateway([account(emulator.url)], Tuning(max_connections=2)) as gateway:
        calls = (gateway.access_details(instance(), Protocol.SSH) for _ in range(5))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(outcome, UpstreamUnavailable) for outcome in outcomes) == 3


async def test_a_role_is_assumed_once_for_all_callers_and_signs_as_the_broker(emulator: WatchedEmulator) -> None:
    with_role = account(emulator.url, "eu-west-1", "eu-west-2", role_arn=ROLE, external_id="our-own-id")
    async with Gateway([with_role], QUICK) as gateway:
        await asyncio.gather(*(gateway.access_details(instance(), Protocol.SSH) for _ in range(20)))
        await gateway.instances("main", "eu-west-2")
        identity = await gateway.caller_identity("main")

    assert emulator.counts["AssumeRole"] == 1
    assert identity.account_id == "123456789012"
    assert identity.arn.endswith(f":assumed-role/broker/{ROLE_SESSION}")
    assert {call.source_identity for call in emulator.calls if call.operation == MINT} == {ROLE_SESSION}


async def test_without_a_role_the_broker_is_whom_the_environment_says(gateway: Gateway) -> None:
    assert (await gateway.caller_identity("main")).arn == "arn:aws:iam::123456789012:user/emulator"


async def test_expired_credentials_are_renewed_once(emulator: WatchedEmulator) -> None:
    async with Gateway([account(emulator.url, role_arn=ROLE)], QUICK) as gateway:
        await gateway.instances("main", "eu-west-1")
        emulator.fault("error:ExpiredTokenException", times=1)
        details = await gateway.access_details(instance(), Protocol.SSH)
    assert details.username == "ec2-user"
    assert emulator.counts["AssumeRole"] == 2
    assert details.attempts == emulator.counts[MINT] == 2


async def test_credentials_that_stay_expired_fail_after_one_renewal(emulator: WatchedEmulator) -> None:
    emulator.fault("error:ExpiredTokenException")
    async with Gateway([account(emulator.url, role_arn=ROLE)], QUICK) as gateway:
        failure = await failure_of(gateway)
    assert isinstance(failure, UpstreamUnavailable)
    assert emulator.counts["AssumeRole"] == 2
    assert failure.attempts == emulator.counts[MINT] == 2


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "RequestExpired"]
)
async def test_nothing_but_an_expired_token_renews_credentials_and_tries_again(
    emulator: WatchedEmulator, code: str
) -> None:
    emulator.fault(f"error:{code}")
    async with Gateway([account(emulator.url, role_arn=ROLE)], QUICK) as gateway:
        await failure_of(gateway)
    assert emulator.counts["AssumeRole"] == 1
    assert emulator.counts[MINT] == 1


async def test_a_role_that_may_not_be_assumed_is_named_and_not_asked_for_again_at_once(
    emulator: WatchedEmulator,
) -> None:
    emulator.fault("error:AccessDenied", operation="AssumeRole")
    async with Gateway([account(emulator.url, role_arn=ROLE)], QUICK) as gateway:
        failures = [await failure_of(gateway) for _ in range(5)]
    assert all(isinstance(failure, UpstreamError) for failure in failures)
    assert {failure.upstream_code for failure in failures} == {"AccessDenied"}
    assert emulator.counts["AssumeRole"] == 1


async def test_no_credentials_at_all_are_an_upstream_error(
    emulator: WatchedEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with Gateway([account(emulator.url)], QUICK) as gateway:
        failure = await failure_of(gateway)
    assert isinstance(failure, UpstreamError)
    assert "NoCredentialsError" in failure.cause


async def test_wrong_keys_are_an_upstream_error_that_says_so(
    emulator: WatchedEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-it")
    async with Gateway([account(emulator.url)], QUICK) as gateway:
        failure = await failure_of(gateway)
    assert failure.upstream_code == "InvalidSignatureException"
    assert "clock" in failure.cause


async def test_nothing_in_the_environment_moves_the_way_to_aws(
    emulator: WatchedEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_LIGHTSAIL", "AWS_ENDPOINT_URL_STS", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with Gateway([account(emulator.url, role_arn=ROLE)], QUICK) as gateway:
        assert await gateway.instances("main", "eu-west-1")


async def test_the_environment_names_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_LIGHTSAIL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    session = AccountSession(Account(name="main", regions=("eu-west-1",)), QUICK, utc_now)
    clients = await session.start()
    assert clients["eu-west-1"][0].meta.endpoint_url == "https://lightsail.eu-west-1.amazonaws.com"
    await session.close()


async def test_a_probe_finds_nothing_to_complain_about_where_all_is_allowed(
    gateway: Gateway, emulator: WatchedEmulator
) -> None:
    assert await probe(gateway, "main", "eu-west-1") == Probed()
    assert [call.answered for call in emulator.calls if call.operation == MINT] == ["NotFoundException"]


@pytest.mark.parametrize("action", ["GetInstances", "GetBlueprints", "GetBundles", "GetKeyPairs"])
async def test_a_probe_names_the_action_that_is_missing(
    gateway: Gateway, emulator: WatchedEmulator, action: str
) -> None:
    emulator.fault("error:AccessDeniedException", operation=action)
    probed = await probe(gateway, "main", "eu-west-1")
    assert probed == Probed((f"main/eu-west-1: lightsail:{action} is not allowed",))


async def test_a_probe_cannot_tell_least_privilege_by_tags_from_no_privilege(
    gateway: Gateway, emulator: WatchedEmulator
) -> None:
    emulator.fault("error:AccessDeniedException", operation=MINT)
    probed = await probe(gateway, "main", "eu-west-1")
    assert probed.problems == ()
    assert len(probed.notes) == 1
    assert f"lightsail:{MINT} is allowed for tagged instances only, or not at all" in probed.notes[0]


async def test_a_probe_knows_which_regions_there_are(gateway: Gateway) -> None:
    assert await probe(gateway, "main", "eu-wset-1") == Probed(("main/eu-wset-1: Lightsail has no such region",))


async def test_a_probe_with_keys_that_do_not_work_says_only_that(
    emulator: WatchedEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNOBODY")
    async with Gateway([account(emulator.url)], QUICK) as gateway:
        probed = await probe(gateway, "main", "eu-west-1")
    assert len(probed.problems) == 1
    assert "the AWS credentials do not work" in probed.problems[0]


async def test_a_gateway_that_is_closed_asks_nothing_any_more(emulator: WatchedEmulator) -> None:
    async with Gateway([account(emulator.url)], QUICK) as gateway:
        pass
    assert isinstance(await failure_of(gateway), UpstreamError)
    assert not emulator.calls


async def test_another_account_does_not_read_again_what_describes_the_services_of_aws(
    gateway: Gateway, emulator: WatchedEmulator
) -> None:
    del gateway  # it has read them
    tracemalloc.start()
    try:
        async with Gateway([Account(name="other", regions=("eu-west-1",), endpoint_url=emulator.url)]):
            now, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now < 3_000_000
