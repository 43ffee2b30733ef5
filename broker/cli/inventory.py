"""The instances as an inventory of Ansible: YAML's subset JSON, which Ansible reads from a file as it is.

Hosts are named as the block of `broker ssh-config` knows them, so ssh opens them without a further word.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from broker.client.documents import InstanceDocument

WINDOWS = {"ansible_connection": "psrp"}
"""Not reached by ssh: PowerShell remoting, for which a password has to be given by other means."""

_ODD = re.compile(r"[^A-Za-z0-9_]+")
_TEMPLATE = re.compile(r"[{}]")


def inventory(instances: Sequence[InstanceDocument]) -> dict[str, Any]:
    """Put every instance into the groups of its account, region, platform, state and tags."""
    bare = [instance["name"] for instance in instances]
    hosts: dict[str, Any] = {}
    groups: dict[str, Any] = {"windows": {"hosts": {}, "vars": WINDOWS}}
    for instance in instances:
        name = instance["name"] if bare.count(instance["name"]) == 1 else _path(instance)
        hosts[name] = _variables(instance)
        for group in _groups(instance):
            groups.setdefault(group, {"hosts": {}})["hosts"][name] = {}
    return {"all": {"hosts": hosts, "children": {name: groups[name] for name in sorted(groups)}}}


def _path(instance: InstanceDocument) -> str:
    return f"{instance['account']}/{instance['region']}/{instance['name']}"


def _groups(instance: InstanceDocument) -> list[str]:
    platform = "windows" if instance["platform"] == "WINDOWS" else "linux"
    tags = [_group("tag", key, value) for key, value in instance["tags"].items()]
    places = [_group(kind, str(instance[kind])) for kind in ("account", "region", "state")]
    return [platform, *places, *tags]


def _group(*parts: str) -> str:
    """Name a group as Ansible wants it: letters, digits and underscores."""
    return "_".join(_ODD.sub("_", part) for part in parts if part)


def _variables(instance: InstanceDocument) -> dict[str, Any]:
    """Answer what playbooks may want to know, without what Ansible runs (in braces) or heeds (`__ansible_vault`)."""
    named = {key: instance[key] for key in ("account", "region", "platform", "blueprint", "bundle", "state")}
    tags = {_harmless(key): _harmless(value) for key, value in instance["tags"].items() if key[:2] != "__"}
    return {f"lightsail_{key}": _harmless(str(value)) for key, value in named.items()} | {"lightsail_tags": tags}


def _harmless(text: str) -> str:
    return _TEMPLATE.sub("", text)
