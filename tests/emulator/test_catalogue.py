from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker.emulator import Emulator
from broker.emulator.catalogue import BLUEPRINTS, bundles_of
from tests.emulator.clients import lightsail

if TYPE_CHECKING:
    from types_aiobotocore_lightsail.type_defs import BlueprintTypeDef, BundleTypeDef


async def blueprints(emulator: Emulator, *, inactive: bool = False) -> dict[str, BlueprintTypeDef]:
    async with lightsail(emulator) as client:
        pages = client.get_paginator("get_blueprints").paginate(includeInactive=inactive)
        return {item["blueprintId"]: item async for page in pages for item in page["blueprints"]}


async def bundles(emulator: Emulator, region: str, *, inactive: bool = False) -> dict[str, BundleTypeDef]:
    async with lightsail(emulator, region=region) as client:
        pages = client.get_paginator("get_bundles").paginate(includeInactive=inactive)
        return {item["bundleId"]: item async for page in pages for item in page["bundles"]}


async def test_windows_blueprints_say_so(emulator: Emulator) -> None:
    found = await blueprints(emulator)
    windows = {name for name, item in found.items() if item["platform"] == "WINDOWS"}
    assert windows == {name for name in found if name.startswith("windows_")}
    assert len(windows) == 7
    assert found["windows_server_2022_sql_2022_express"]["type"] == "app"
    assert found["windows_server_2022"]["group"] == "windows_2022"
    assert found["ghost_bitnami"]["group"] == "ghost"


async def test_retired_blueprints_and_bundles_are_shown_when_asked_for(emulator: Emulator) -> None:
    active, every = await blueprints(emulator), await blueprints(emulator, inactive=True)
    retired = {name: item for name, item in every.items() if name not in active}
    assert len(retired) == 7
    assert all(item["isActive"] is False for item in retired.values())
    sold, all_bundles = await bundles(emulator, "eu-west-1"), await bundles(emulator, "eu-west-1", inactive=True)
    assert set(all_bundles) - set(sold) == {"nano_2_0"} | {
        f"{n}_1_0" for n in ("nano", "micro", "small", "medium", "large")
    }


async def test_bundles_tell_which_platform_they_run(emulator: Emulator) -> None:
    found = await bundles(emulator, "eu-west-1")
    assert len(found) == 8 * 4 + 3
    assert found["nano_win_3_0"]["supportedPlatforms"] == ["WINDOWS"]
    assert found["nano_3_0"]["supportedPlatforms"] == ["LINUX_UNIX"]
    assert found["nano_win_3_0"]["diskSizeInGb"] == 30
    assert found["nano_ipv6_3_0"]["publicIpv4AddressCount"] == 0
    assert found["2xlarge_win_3_0"]["price"] == 244
    assert found["2xlarge_win_3_0"]["name"] == "2Xlarge"
    assert found["16xlarge_3_0"]["price"] == 1764


async def test_mumbai_and_sydney_have_ids_of_their_own(emulator: Emulator) -> None:
    mumbai, sydney = await bundles(emulator, "ap-south-1"), await bundles(emulator, "ap-southeast-2")
    assert mumbai["nano_3_1"]["transferPerMonthInGb"] == 1024
    assert sydney["nano_3_2"]["transferPerMonthInGb"] == 512
    assert "nano_3_0" not in mumbai.keys() | sydney.keys()


async def test_nothing_belongs_to_lightsail_for_research(emulator: Emulator) -> None:
    async with lightsail(emulator) as client:
        assert (await client.get_blueprints(appCategory="LfR"))["blueprints"] == []
        assert (await client.get_bundles(appCategory="LfR"))["bundles"] == []


@pytest.mark.parametrize(
    ("blueprint", "user"),
    [
        ("amazon_linux_2023", "ec2-user"),
        ("ubuntu_24_04", "ubuntu"),
        ("debian_12", "admin"),
        ("wordpress", "bitnami"),
        ("wordpress_ls_1_0", "admin"),
        ("centos_7_1901_01", "centos"),
        ("windows_server_2012_r2", "Administrator"),
    ],
)
def test_every_image_has_its_own_user(blueprint: str, user: str) -> None:
    assert BLUEPRINTS[blueprint].username == user


def test_every_blueprint_can_run_on_some_bundle() -> None:
    platforms = {bundle.platform for bundle in bundles_of("eu-west-1").values()}
    assert {blueprint.platform for blueprint in BLUEPRINTS.values()} == platforms
