"""A bastion starts a hundred scripts in the same second: each has a whole document of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_ssh_public_identity, ssh_key_fingerprint
from cryptography.hazmat.primitives.serialization.ssh import SSHCertificate

from tests.end_to_end.places import LINUX, Place, a_place

CALLS, AT_ONCE = 100, 12


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path, [{**LINUX, "name": "web-1"}]) as place:
        yield place


async def test_a_hundred_parallel_calls_give_a_hundred_valid_documents(place: Place) -> None:
    place.environment["BROKER__LIMITS__PER_CALLER_PER_MINUTE"] = "1000"
    place.environment["BROKER__LIMITS__ISSUES_PER_CALLER_PER_MINUTE"] = "1000"
    async with place.serving() as service:
        environment = {
            "BROKER_URL": service.url,
            "BROKER_TOKEN": place.token,
            "BROKER_CA_FILE": str(place.folder / "ca.pem"),
        }
        turn = asyncio.Semaphore(AT_ONCE)  # of two cores; a hundred interpreters at once would only wait for each other

        async def call() -> str:
            async with turn:
                ran = await place.broker("get", "web-1", "--reason", "nightly", **environment)
            assert ran.code == 0, ran.err
            return ran.out

        async with asyncio.TaskGroup() as calls:
            answers = [calls.create_task(call()) for _ in range(CALLS)]
        documents = [json.loads(answer.result()) for answer in answers]
        assert await service.stop() == 0
    keys = {fingerprint_of(document["ssh"]["certificate"]) for document in documents}
    indices = {document["audit"]["index"] for document in documents}
    leases = {document["lease"]["id"] for document in documents}
    assert (len(keys), len(indices), len(leases)) == (CALLS, CALLS, CALLS)
    issued = {event["index"] for event in await place.events("--event", "credential.issued")}
    assert issued == indices
    assert (await place.verify()).code == 0


def fingerprint_of(certificate: str) -> bytes:
    identity = load_ssh_public_identity(certificate.encode())
    assert isinstance(identity, SSHCertificate)
    return ssh_key_fingerprint(identity.public_key(), hashes.SHA256())
