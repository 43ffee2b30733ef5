from __future__ import annotations

from collections.abc import Iterable

import pytest
import yaml

from broker.cli.audit_reads import Listed
from broker.cli.output import print_json, show

Items = Iterable[dict[str, object]]


def some(count: int) -> list[dict[str, object]]:
    return [{"n": number * 60, "text": "two\nlines", "more": [{"x": None}], "none": []} for number in range(count)]


def shown(items: Items, form: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    show(items, form, (">N", "TEXT"), lambda item: (item["n"], item["text"]), "nothing")
    return capsys.readouterr().out


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_and_yaml_that_are_printed_item_by_item_are_those_of_the_list(
    count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    items = some(count)
    print_json(items)
    whole = capsys.readouterr().out
    assert shown(iter(items), "json", capsys) == shown(items, "json", capsys) == whole
    assert shown(items, "yaml", capsys) == yaml.safe_dump(items, sort_keys=False)


def test_a_listing_made_on_the_way_is_gone_through_again_for_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    listed = Listed(range(3), lambda number: some(3)[number])
    table = " N  TEXT\n  0  twolines\n 60  twolines\n120  twolines\n"
    assert shown(listed, "table", capsys) == shown(iter(listed), "table", capsys) == table.replace(" N", "  N")
