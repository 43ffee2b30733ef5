"""The page on causes names every cause that the doctor can find, and no other."""

import re
from pathlib import Path

from broker.client.diagnosis.causes import FIXES

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
SOURCE = Path(__file__).parents[2] / "broker" / "client" / "diagnosis"


def test_every_cause_stands_in_the_table_with_its_fix() -> None:
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| [^|]+ \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE))
    assert rows.keys() == FIXES.keys()
    assert {cause: fix.strip() for cause, fix in rows.items()} == FIXES


def test_no_cause_is_without_a_check() -> None:
    code = "".join(path.read_text() for path in SOURCE.glob("*.py") if path.name != "causes.py")
    assert [cause for cause in FIXES if f'"{cause}"' not in code] == []
