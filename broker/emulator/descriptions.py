"""Instances in the words of GetInstance and GetInstancePortStates."""

from __future__ import annotations

import hashlib
from typing import Final

from broker.emulator.estate import Instance
from broker.emulator.regions import REGIONS

_ANYWHERE: Final = {"cidrs": ["0.0.0.0/0"], "ipv6Cidrs": ["::/0"], "cidrListAliases": []}
_LIGHTSAIL_ONLY: Final = {"cidrs": [], "ipv6Cidrs": [], "cidrListAliases": ["lightsail-connect"]}
_SSH_FOR_LIGHTSAIL_ONLY: Final = frozenset({"wordpress_ls_1_0"})
_SYSTEM_DISK_IOPS: Final = 100


def describe(instance: Instance) -> dict[str, object]:
    """Answer an instance in the shape of AWS's Instance."""
    fixture = instance.fixture
    description: dict[str, object] = {
        "name": instance.name,
        "arn": instance.arn,
        "supportCode": instance.support_code,
        "createdAt": instance.created_at,
        "location": _location(instance),
        "resourceType": "Instance",
        "tags": [{"key": key, "value": value} if value else {"key": key} for key, value in fixture.tags.items()],
        "blueprintId": instance.blueprint.blueprint_id,
        "blueprintName": instance.blueprint.name,
        "bundleId": instance.bundle.bundle_id,
        "addOns": [],
        "isStaticIp": False,
        "ipv6Addresses": list(fixture.ipv6),
        "ipAddressType": _address_type(instance),
        "hardware": _hardware(instance),
        "networking": {
            "monthlyTransfer": {"gbPerMonthAllocated": instance.bundle.transfer},
            "ports": [_port(instance, port, name) for port, name in _open_ports(instance)],
        },
        "state": instance.state,
        "username": fixture.login,
        "sshKeyName": fixture.key_pair_name,
        "metadataOptions": {
            "state": "applied",
            "httpTokens": "optional",
            "httpEndpoint": "enabled",
            "httpPutResponseHopLimit": 1,
            "httpProtocolIpv6": "disabled",
        },
    }
    if instance.public_ip:
        description["publicIpAddress"] = instance.public_ip
    if instance.bundle.has_ipv4:
        description["privateIpAddress"] = _private_address(instance)
    return description


def port_states(instance: Instance) -> list[dict[str, object]]:
    """Answer the open ports in the shape of AWS's InstancePortState."""
    return [
        {"fromPort": port, "toPort": port, "protocol": "tcp", "state": "open", **_sources(instance, name)}
        for port, name in _open_ports(instance)
    ]


def _location(instance: Instance) -> dict[str, object]:
    region = instance.fixture.region
    return {"availabilityZone": REGIONS[region].zone_names[0], "regionName": region}


def _address_type(instance: Instance) -> str:
    if not instance.bundle.has_ipv4:
        return "ipv6"
    return "dualstack" if instance.fixture.ipv6 else "ipv4"


def _private_address(instance: Instance) -> str:
    """Answer a stable address in 172.26.0.0/16, where Lightsail's are (an assumption)."""
    third, fourth = hashlib.sha256(instance.arn.encode()).digest()[:2]
    return f"172.26.{third}.{fourth}"


def _hardware(instance: Instance) -> dict[str, object]:
    disk = {
        "createdAt": instance.created_at,
        "sizeInGb": instance.bundle.disk,
        "isSystemDisk": True,
        "iops": _SYSTEM_DISK_IOPS,
        "path": "/dev/sda1" if instance.is_windows else "/dev/xvda",
        "attachedTo": instance.name,
        "attachmentState": "attached",
    }
    return {"cpuCount": instance.bundle.cpu_count, "disks": [disk], "ramSizeInGb": instance.bundle.ram}


def _open_ports(instance: Instance) -> tuple[tuple[int, str], ...]:
    login = (3389, "RDP") if instance.is_windows else (22, "SSH")
    return (login, (80, "HTTP"))


def _sources(instance: Instance, name: str) -> dict[str, list[str]]:
    is_closed_off = name == "SSH" and instance.blueprint.blueprint_id in _SSH_FOR_LIGHTSAIL_ONLY
    return _LIGHTSAIL_ONLY if is_closed_off else _ANYWHERE


def _port(instance: Instance, port: int, name: str) -> dict[str, object]:
    sources = _sources(instance, name)
    return {
        "fromPort": port,
        "toPort": port,
        "protocol": "tcp",
        "accessFrom": "Anywhere (0.0.0.0/0 and ::/0)" if sources is _ANYWHERE else "Lightsail",
        "accessType": "Public",
        "commonName": name,
        "accessDirection": "inbound",
        **sources,
    }
