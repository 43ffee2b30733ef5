"""Who asked AWS past the broker: what CloudTrail would say, with the ids that were given, against the real log."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]  # it ships no types

from tests.doubles.cloudtrail import a_record
from tests.end_to_end.places import LINUX, Place, a_place


def mint_past_the_broker(place: Place) -> str:
    """Ask for a credential with the rights of the broker's account; answer the id that AWS gave to the request."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    key, secret = (place.emulator.environment[name] for name in names)
    client = boto3.client(
        "lightsail",
        region_name="eu-west-1",
        endpoint_url=place.emulator.url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )
    answer = client.get_instance_access_details(instanceName="web-1", protocol="ssh")
    return str(answer["ResponseMetadata"]["RequestId"])


def deliver(trail: Path, ids: list[str]) -> None:
    """Write what CloudTrail would have of these requests."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    trail.write_text(json.dumps({"Records": [a_record(request_id, now) for request_id in ids]}))


async def reconcile(place: Place, trail: Path, ids: list[str], code: int) -> list[dict[str, Any]]:
    deliver(trail, ids)
    ran = await place.broker("audit", "reconcile", "--cloudtrail", str(trail), "--format", "json")
    assert ran.code == code, ran.err
    items: list[dict[str, Any]] = json.loads(ran.out)
    return items


async def test_a_credential_that_was_minted_past_the_broker_is_found(tmp_path: Path) -> None:
    trail = tmp_path / "trail.json"
    async with a_place(tmp_path, [{**LINUX, "name": "web-1"}]) as place, place.serving() as service:
        for _ in range(2):
            assert (await service.issue("web-1"))[0] == 201
        issued = await place.events("--event", "credential.issued")
        known = [event["upstream_request_id"] for event in issued]
        assert len(set(known)) == 2
        assert await reconcile(place, trail, known, 0) == []

        past = await asyncio.to_thread(mint_past_the_broker, place)
        [finding] = await reconcile(place, trail, [*known, past], 1)
        assert (finding["finding"], finding["call"]["request_id"]) == ("not in the log", past)
