import asyncio
import gzip
import logging
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from botocore.history import get_global_history_recorder
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broker.errors import BrokerError, UpstreamError, UpstreamUnavailable
from broker.lightsail.gateway import Gateway
from broker.lightsail.quiet import silence_sdk_logging
from broker.lightsail.session import Tuning
from broker.lightsail.transport import MAX_ANSWER_BYTES
from broker.model import Protocol
from tests.doubles.lightsail import Answer, WilfulAws, account, body, error, instance

PLANTED = "PLANTEDKEYMATERIAL"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{PLANTED}\n-----END RSA PRIVATE KEY-----\n"
DETAILS = {
    "instanceName": "web-1",
    "protocol": "ssh",
    "username": "ec2-user",
    "privateKey": PEM,
    "certKey": "ssh-rsa-cert-v01@openssh.com AAAAHHNzaC1yc2EtY2VydC12MDFAb3BlbnNzaC5jb20=",
}


async def failure_of(gateway: Gateway) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        await gateway.access_details(instance(), Protocol.SSH)
    return caught.value


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"<html>not json</html>",
        b"\xff\xfe\x00",
        b"[" * 5000,
        {"accessDetails": [1, 2]},
        {"accessDetails": "text"},
        {"accessDetails": DETAILS | {"expiresAt": "not a time"}},
        {"accessDetails": DETAILS | {"expiresAt": 1e300}},
        {"accessDetails": DETAILS | {"expiresAt": 253402300800}},
        {"accessDetails": DETAILS | {"expiresAt": "9999-12-31T23:59:59-14:00"}},
        {"accessDetails": DETAILS | {"expiresAt": "0001-01-01T00:00:00+14:00"}},
        {"accessDetails": DETAILS | {"expiresAt": "2016-12-31T23:59:60Z"}},
        {"accessDetails": DETAILS | {"hostKeys": {"a": 1}}},
        {"accessDetails": DETAILS | {"hostKeys": [7]}},
        {"accessDetails": DETAILS | {"instanceName": "web-2"}},
        {"accessDetails": DETAILS | {"username": ["ec2-user"]}},
        gzip.compress(b"{}", mtime=0),
    ],
)
async def test_an_answer_that_is_not_lightsail_s_is_an_upstream_error(
    wilful: Gateway, aws: WilfulAws, answer: object
) -> None:
    aws.will_answer(body(answer))
    failure = await failure_of(wilful)
    assert isinstance(failure, UpstreamError)
    assert failure.__context__ is None
    assert len(aws.requests) == 1


@pytest.mark.parametrize("moment", [0, 2**31, 2**32 + 1, 253402300799, 1785573000.5])
async def test_a_date_of_lightsail_s_may_be_any_of_the_calendar(wilful: Gateway, aws: WilfulAws, moment: float) -> None:
    aws.will_answer(body({"accessDetails": {**DETAILS, "expiresAt": moment}}))
    assert (await wilful.access_details(instance(), Protocol.SSH)).attempts == 1


async def test_an_answer_without_end_is_cut_off(wilful: Gateway, aws: WilfulAws) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 10 * MAX_ANSWER_BYTES:
            await response.write(b" " * 65536)
            sent += 65536
        return response

    aws.will_answer(endless)
    assert "AnswerTooLarge" in (await failure_of(wilful)).cause
    assert len(aws.requests) == 1
    await asyncio.sleep(0.05)
    assert sent < 4 * MAX_ANSWER_BYTES


async def test_an_answer_that_drips_ends_at_the_deadline(aws: WilfulAws) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(200):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    aws.will_answer(drip)
    async with Gateway([account(aws.url)], Tuning(deadline=0.5)) as gateway:
        began = time.monotonic()
        assert isinstance(await failure_of(gateway), UpstreamUnavailable)
        assert time.monotonic() - began == pytest.approx(0.5, abs=0.2)


async def broken(request: web.Request) -> web.StreamResponse:
    """Break off in the middle of a body."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.abort()
    return response


async def reset(request: web.Request) -> web.StreamResponse:
    """Reset the connection (TCP RST) instead of answering: the SDK calls it the same as one that was never made."""
    assert request.transport is not None
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return web.Response()


@pytest.mark.parametrize("lost", [broken, reset])
async def test_a_mint_whose_answer_was_lost_is_not_sent_again(wilful: Gateway, aws: WilfulAws, lost: Answer) -> None:
    aws.will_answer(lost, body({"accessDetails": DETAILS}))
    failure = await failure_of(wilful)
    assert isinstance(failure, UpstreamUnavailable)
    assert failure.attempts == len(aws.requests) == 1


@pytest.mark.parametrize("lost", [broken, reset])
async def test_a_list_whose_answer_was_lost_is_asked_for_again(wilful: Gateway, aws: WilfulAws, lost: Answer) -> None:
    aws.will_answer(lost, body({"instances": []}))
    assert await wilful.instances("main", "eu-west-1") == ()
    assert len(aws.requests) == 2


async def test_even_an_answer_that_cannot_be_read_tells_its_request_id(wilful: Gateway, aws: WilfulAws) -> None:
    for unreadable in (b"{", b"[]", {"accessDetails": DETAILS | {"instanceName": "web-2"}}):
        aws.will_answer(body(unreadable))
        told = (await failure_of(wilful)).upstream_request_id
        assert told == str(UUID(told))


async def test_an_answer_that_breaks_off_tells_its_request_id_too(wilful: Gateway, aws: WilfulAws) -> None:
    told = str(uuid4())

    async def breaks_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000", "x-amzn-RequestId": told})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.abort()
        return response

    aws.will_answer(breaks_off)
    assert (await failure_of(wilful)).upstream_request_id == told


async def test_a_request_id_that_is_none_is_not_written_down(wilful: Gateway, aws: WilfulAws) -> None:
    async def odd(_: web.Request) -> web.Response:
        return web.Response(body=b"{", headers={"x-amzn-RequestId": "<b>" + "x" * 5000})

    aws.will_answer(odd)
    assert (await failure_of(wilful)).upstream_request_id == ""


async def test_a_redirect_is_not_trusted(wilful: Gateway, aws: WilfulAws) -> None:
    async def elsewhere(_: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"{aws.url}/elsewhere"})

    aws.will_answer(elsewhere, body({"accessDetails": DETAILS}))
    assert "Redirected" in (await failure_of(wilful)).cause


async def test_a_list_that_turns_in_a_circle_is_an_upstream_error(wilful: Gateway, aws: WilfulAws) -> None:
    aws.will_answer(body({"instances": [], "nextPageToken": "again"}))
    with pytest.raises(UpstreamError):
        await wilful.instances("main", "eu-west-1")
    assert len(aws.requests) == 2


async def test_a_list_that_never_ends_is_an_upstream_error(wilful: Gateway, aws: WilfulAws) -> None:
    async def another(_: web.Request) -> web.Response:
        return web.json_response({"instances": [], "nextPageToken": str(len(aws.requests))})

    aws.will_answer(another)
    with pytest.raises(UpstreamError, match="does not end"):
        await wilful.instances("main", "eu-west-1")


async def test_the_action_that_is_not_allowed_is_named_and_no_other_text_of_aws(
    wilful: Gateway, aws: WilfulAws
) -> None:
    message = f"User: {PLANTED} is not authorized to perform: lightsail:GetInstanceAccessDetails on {PLANTED}"
    aws.will_answer(error("AccessDeniedException", message))
    failure = await failure_of(wilful)
    assert "lightsail:GetInstanceAccessDetails is not allowed" in failure.cause
    assert PLANTED not in failure.cause


async def test_a_code_that_is_no_code_is_not_handed_on(wilful: Gateway, aws: WilfulAws) -> None:
    aws.will_answer(error("<script>alert(1)</script>"))
    failure = await failure_of(wilful)
    assert isinstance(failure, UpstreamError)
    assert failure.upstream_code == ""


async def test_every_call_of_a_region_goes_through_one_client_that_names_itself(
    wilful: Gateway, aws: WilfulAws
) -> None:
    aws.will_answer(body({"accessDetails": DETAILS}))
    for _ in range(10):
        await wilful.access_details(instance(), Protocol.SSH)
    assert len(aws.connections) == 1
    assert {request["User-Agent"].split("/")[0] for request in aws.requests} == {"lightsail-credential-broker"}


async def test_nobody_waits_for_a_connection(wilful: Gateway, aws: WilfulAws) -> None:
    together = asyncio.Barrier(40)

    async def all_at_once(_: web.Request) -> web.Response:
        await together.wait()
        return web.json_response({"accessDetails": DETAILS})

    aws.will_answer(all_at_once)
    await asyncio.gather(*(wilful.access_details(instance(), Protocol.SSH) for _ in range(40)))
    assert len(aws.requests) == 40


async def test_an_idle_connection_is_still_there_when_it_is_wanted(aws: WilfulAws) -> None:
    aws.will_answer(body({"accessDetails": DETAILS}))
    async with Gateway([account(aws.url)], Tuning(keepalive=0.05)) as hasty:
        for _ in range(2):
            await hasty.access_details(instance(), Protocol.SSH)
            await asyncio.sleep(0.3)
    assert len(aws.connections) == 2
    aws.connections.clear()
    async with Gateway([account(aws.url)], Tuning()) as patient:
        for _ in range(2):
            await patient.access_details(instance(), Protocol.SSH)
            await asyncio.sleep(0.3)
    assert len(aws.connections) == 1


def self_signed(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lightsail.eu-west-1.amazonaws.com")])
    now = datetime.now(UTC)
    certificate = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
    ).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "tls.pem").write_bytes(private + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "tls.pem")
    return context


async def test_an_aws_whose_certificate_nobody_vouches_for_is_told_nothing(tmp_path: Path) -> None:
    impostor = WilfulAws()
    await impostor.start(self_signed(tmp_path))
    impostor.will_answer(body({"accessDetails": DETAILS}))
    async with Gateway([account(impostor.url)], Tuning(deadline=5)) as gateway:
        assert isinstance(await failure_of(gateway), UpstreamUnavailable)
    assert impostor.requests == []
    await impostor.stop()


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Turn every logger there is to DEBUG, as one does who looks for a bug."""
    names = list(logging.root.manager.loggerDict)
    levels = {name: logging.getLogger(name).level for name in names}
    caplog.set_level(logging.DEBUG)
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield caplog
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


async def test_no_body_is_logged_even_when_everything_is_set_to_debug(
    wilful: Gateway, aws: WilfulAws, everything_logged: pytest.LogCaptureFixture
) -> None:
    aws.will_answer(body({"accessDetails": DETAILS}))
    await wilful.access_details(instance(), Protocol.SSH)
    aws.will_answer(body(PEM.encode()))
    await failure_of(wilful)
    aws.will_answer(error("ServiceException", PEM, 500))
    await failure_of(wilful)

    families = ("botocore", "aiobotocore", "boto", "aioboto", "urllib3", "aiohttp.client")
    assert [record.name for record in everything_logged.records if record.name.startswith(families)] == []
    assert "MATERIAL" not in everything_logged.text


def test_what_the_sdk_warns_of_is_still_heard(caplog: pytest.LogCaptureFixture) -> None:
    silence_sdk_logging()
    logging.getLogger("botocore.credentials").warning("a warning")
    assert "a warning" in caplog.text


def test_the_sdk_s_own_recorder_of_requests_stays_off() -> None:
    recorder = get_global_history_recorder()
    recorder.enable()
    silence_sdk_logging()
    seen: list[object] = []
    recorder.add_handler(type("Handler", (), {"emit": lambda _, *event: seen.append(event)})())
    recorder.record("HTTP_RESPONSE", {"body": PLANTED})
    assert seen == []
