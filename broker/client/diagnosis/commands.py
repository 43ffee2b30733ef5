"""What to type about a cause: whole commands, with the names that were found."""

from __future__ import annotations

import shlex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.client.documents import InstanceDocument

_FORMS = {
    "token-missing": "broker login",
    "untrusted": "export BROKER_CA_FILE=/path/to/authority.pem",
    "unreachable": "curl -sS {trust}{url}/readyz",
    "service-unready": "curl -sS {trust}{url}/readyz",
    "not-visible": "broker ls",
    "not-running": "aws lightsail start-instance --region {region} --instance-name {name}",
    "not-ready": "broker {verb} {instance} --wait 15m",
    "no-address": "aws lightsail get-instance --region {region} --instance-name {name}",
    "host-key-changed": "broker hosts show {instance}",
    "port-silent": "aws lightsail get-instance-port-states --region {region} --instance-name {name}",
    "port-refused": "aws lightsail tag-resource --region {region} --resource-name {name} --tags key={tag},value=PORT",
    "not-ssh": "aws lightsail tag-resource --region {region} --resource-name {name} --tags key={tag},value=PORT",
    "not-rdp": "aws lightsail tag-resource --region {region} --resource-name {name} --tags key={tag},value=PORT",
    "host-keys-unknown": "broker {verb} {instance} --wait 10m",
    "certificate-expired": "broker doctor {instance}",
    "login-failed": "broker ssh {instance} -- -v",
}
"""By cause; a cause that is not here is not mended by a command of this machine."""

_EITHER_TAG = "`ssh-port` or `rdp-port`"


class Names:
    """What stands in the commands, as a shell takes it: of the service, and of the instance as far as it is known."""

    def __init__(self, instance: str) -> None:
        self._names = {"instance": shlex.quote(instance), "verb": "ssh", "tag": "ssh-port"}
        self._protocol = ""

    def reached_at(self, url: str, ca_file: str | None) -> None:
        """Take the address of the service in, and the file of the authority that is trusted for it."""
        trust = f"--cacert {shlex.quote(ca_file)} " if ca_file else ""
        self._names |= {"url": shlex.quote(url), "trust": trust}

    def found(self, instance: InstanceDocument) -> None:
        """Take what the listing says of the instance in."""
        self._names |= {name: shlex.quote(instance[name]) for name in ("name", "region")}
        self.opened_by("rdp" if instance["platform"] == "WINDOWS" else "ssh")

    def opened_by(self, protocol: str) -> None:
        """Take the protocol in by which the instance is opened."""
        self._protocol = protocol
        self._names |= {"verb": protocol, "tag": f"{protocol}-port"}

    def command(self, cause: str) -> str:
        """Answer what to type about a cause; "" when nothing helps, or a name is not known."""
        try:
            return _FORMS.get(cause, "").format_map(self._names)
        except LookupError:
            return ""

    def narrowed(self, fix: str) -> str:
        """Leave out of a fix the tag of the other protocol."""
        return fix.replace(_EITHER_TAG, f"`{self._protocol}-port`") if self._protocol else fix

    def asking(self, obligations: Sequence[str], reason: str, ticket: str) -> str:
        """Write down how to get in with what is missing; "" where that needs somebody else."""
        if "approval" in obligations:
            return ""
        words = ["broker", self._names["verb"], self._names["instance"]]
        for name, said, blank in (("reason", reason, "TEXT"), ("ticket", ticket, "ID")):
            if said or name in obligations:
                words += [f"--{name}", shlex.quote(said or blank)]
        first = "broker login && " if {"mfa", "fresh_login"} & set(obligations) else ""
        return first + " ".join(words)
