"""What `broker check` asks: may we do all that the service needs to do?"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable
from typing import TYPE_CHECKING, NamedTuple

from broker.errors import BrokerError, Denied, UpstreamError, UpstreamUnavailable
from broker.lightsail.faults import REFUSED
from broker.model import LIGHTSAIL_REGIONS, Instance, InstanceRef, Platform, Protocol

if TYPE_CHECKING:
    from broker.lightsail.gateway import Gateway


class Probed(NamedTuple):
    """What is missing, and what cannot be told from here; each a sentence."""

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def probe(gateway: Gateway, account: str, region: str) -> Probed:
    """Answer what is missing in one account and region; nothing when all is well.

    Nothing is minted: GetInstanceAccessDetails is asked for an instance that cannot exist, which AWS answers with
    NotFoundException when the action is allowed.
    """
    where = f"{account}/{region}"
    if region not in LIGHTSAIL_REGIONS:
        return Probed((f"{where}: Lightsail has no such region",))
    try:
        await gateway.caller_identity(account)
    except UpstreamUnavailable as error:
        return Probed((f"{where}: AWS cannot be reached: {error.cause}",))
    except BrokerError as error:
        return Probed((f"{where}: the AWS credentials do not work: {error.cause}",))
    listing = {
        "GetInstances": gateway.instances,
        "GetBlueprints": gateway.blueprints,
        "GetBundles": gateway.bundles,
        "GetKeyPairs": gateway.key_pairs,
    }
    problems = [await _problem(action, ask(account, region)) for action, ask in listing.items()]
    minting = await _minting(gateway, account, region)
    return Probed(
        tuple(f"{where}: {problem}" for problem in (*problems, *minting.problems) if problem),
        tuple(f"{where}: {note}" for note in minting.notes),
    )


async def _problem(action: str, asking: Awaitable[object]) -> str:
    try:
        await asking
    except UpstreamError as error:
        return f"lightsail:{action} is not allowed" if error.upstream_code in REFUSED else error.cause
    except BrokerError as error:
        return error.cause
    return ""


async def _minting(gateway: Gateway, account: str, region: str) -> Probed:
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
        return Probed()
    except BrokerError as error:
        if error.upstream_code not in REFUSED:
            return Probed((error.cause,))
        # The least privilege that we ask for: allowed for instances with a tag, and this one has none.
        action = "lightsail:GetInstanceAccessDetails"
        return Probed(
            notes=(f"{action} is allowed for tagged instances only, or not at all; from here nobody can tell",)
        )
    return Probed(("AWS gave access to an instance that does not exist",))
