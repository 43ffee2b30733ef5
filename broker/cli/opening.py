"""Opening an instance for ssh: a lease that is good, from this machine or from the service."""

from __future__ import annotations

import os
from functools import partial

from broker.cli import asking, output
from broker.client import Misconfigured
from broker.client.errors import HostKeysUnknown
from broker.client.leases import QUEUE_SECONDS, Leases
from broker.client.names import is_well_formed
from broker.client.whose import person, service_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from broker.client.documents import CredentialDocument
    from broker.client.lease import Lease
    from broker.client.purpose import Purpose


def opened(instance: str, purpose: Purpose, seconds: float, *, may_ask: bool = True) -> Lease:
    """Answer a lease that is good; a new one is announced, with what the service warns of.

    Args:
        instance: a bare name, or `account/region/name`.
        purpose: what for.
        seconds: how long to wait for what is not ready yet.
        may_ask: whether a person may be asked at the terminal.

    Raises:
        ClientError: there is none to be had.
    """
    if not is_well_formed(instance):
        raise Misconfigured("this is not the name of an instance: write NAME or ACCOUNT/REGION/NAME")
    at, me, queue = service_url(os.environ), person(os.environ), seconds + QUEUE_SECONDS
    leases = Leases(os.environ, at, me, output.talk, queue_seconds=queue)
    return leases.obtain(instance, purpose, partial(_ask, instance, purpose, seconds, may_ask=may_ask))


def _ask(instance: str, purpose: Purpose, seconds: float, *, may_ask: bool) -> CredentialDocument:
    """Ask the service, as long as it helps."""
    return asking.granted(instance, "ssh", purpose, seconds, _usable, may_ask=may_ask)


def _usable(credential: CredentialDocument) -> None:
    if "ssh" in credential and not credential["ssh"]["known_hosts"]:
        raise HostKeysUnknown
