"""What `broker check` asks: may we do all that the service needs to do?"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from broker.errors import BrokerError, Denied, UpstreamError
from broker.lightsail.faults import REFUSED
from broker.model import LIGHTSAIL_REGIONS, Instance, InstanceRef, Platform, Protocol

if TYPE_CHECKING:
    from broker.lightsail.gateway import Gateway


async def probe(gateway: Gateway, account: str, region: str) -> tuple[str, ...]:
    """Answer what is missing in one account and region, each a sentence; nothing when all is well.

    Nothing is minted: GetInstanceAccessDetails is asked for an instance that cannot exist, which AWS answers with
    NotFoundException when the action is allowed.
    """
    where = f"{account}/{region}"
    if region not in LIGHTSAIL_REGIONS:
        return (f"{where}: Lightsail has no such region.",)
    try:
        await gateway.caller_identity(account)
    except BrokerError as error:
        return (f"{where}: the AWS credentials do not work: {error.cause}.",)
    listing = {
        "GetInstances": gateway.instances,
        "GetBlueprints": gateway.blueprints,
        "GetBundles": gateway.bundles,
        "GetKeyPairs": gateway.key_pairs,
    }
    problems = [await _problem(action, ask(account, region)) for action, ask in listing.items()]
    problems.append(await _minting_problem(gateway, account, region))
    return tuple(f"{where}: {problem}." for problem in problems if problem)


async def _problem(action: str, asking: Awaitable[object]) -> str:
    try:
        await asking
    except UpstreamError as error:
        return f"lightsail:{action} is not allowed" if error.upstream_code in REFUSED else error.cause
    except BrokerError as error:
        return error.cause
    return ""


async def _minting_problem(gateway: Gateway, account: str, region: str) -> str:
    nobody = Instance(
        ref=InstanceRef(account, region, f"no-such-instance-{secrets.token_hex(8)}"),
        platform=Platform.LINUX_UNIX,
        blueprint="",
        bundle="",
        state="",
    )
    try:
        await gateway.access_details(nobody, Protocol.SSH)
    except Denied:
        return ""
    except BrokerError as error:
        if error.upstream_code not in REFUSED:
            return error.cause
        return "lightsail:GetInstanceAccessDetails is not allowed, or for tagged instances only, which cannot be told"
    return "AWS gave access to an instance that does not exist"
