import pytest

from broker.cli.tables import fitted, shortened, width_of
from tests.doubles.client import ServiceDouble, instance, page

from .conftest import Terminal, on_a_terminal

COLUMNS = ("NAME", "!SINCE", "REASON", "TAGS", ">N")


@pytest.fixture
def _long(service: ServiceDouble) -> None:
    tags = {"env": "prod", "owner": "团队网络基础设施", "purpose": "a rather long text of somebody"}
    service.tell("GET /v1/instances", page(instance("web-1", tags=tags), instance("数据库")))


@pytest.mark.usefixtures("_long")
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_table_keeps_within_its_terminal(columns: int, terminal: Terminal) -> None:
    shown = on_a_terminal(columns, terminal, "ls")

    assert max(map(width_of, shown)) <= columns
    assert "…" in shown[1]
    assert [line.split()[0] for line in shown] == ["INSTANCE", "web-1", "数据库"]


@pytest.mark.usefixtures("_long")
def test_wide_characters_keep_the_columns_straight(terminal: Terminal) -> None:
    heading, _, wide = on_a_terminal(120, terminal, "ls")

    assert width_of(wide[: wide.index("running")]) == heading.index("STATE")


@pytest.mark.usefixtures("_long")
def test_what_is_piped_is_whole(terminal: Terminal) -> None:
    shown = terminal.broker("ls", COLUMNS="40").stdout

    assert "…" not in shown
    assert "purpose=a rather long text of somebody" in shown


def test_the_widest_column_gives_first_and_all_alike_in_the_end() -> None:
    assert fitted(COLUMNS, [10, 20, 30, 12, 3], 80) == [10, 20, 27, 12, 3]
    assert fitted(COLUMNS, [10, 20, 30, 28, 3], 69) == [10, 20, 14, 14, 3]
    assert fitted(COLUMNS, [10, 20, 30, 28, 3], 1000) == [10, 20, 30, 28, 3]


def test_what_says_nothing_when_it_is_cut_is_never_cut() -> None:
    assert fitted(COLUMNS, [10, 20, 30, 28, 3], 20) == [10, 20, 4, 4, 3]
    assert fitted(COLUMNS, [90, 20, 30, 28, 3], 60)[0] == 60


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("disk is full", 12, "disk is full"),
        ("disk is full", 8, "disk is…"),
        ("disk is full", 6, "disk…"),
        ("main/eu-west-1/web-1", 8, "…1/web-1"),
        ("SHA256:EVB6/hxDc", 12, "SHA256:EVB6…"),
        ("数据库", 6, "数据库"),
        ("数据库", 5, "数据…"),
        ("数据库", 4, "数…"),
    ],
)
def test_what_is_too_long_is_shortened(text: str, width: int, expected: str) -> None:
    assert shortened(text, width) == expected
    assert width_of(expected) <= width


def test_the_name_of_an_instance_is_what_stays_of_its_place() -> None:
    columns, widths, names = ("/INSTANCE", "REASON", ">N"), [20, 30, 3], [7, 6, 3]

    assert fitted(columns, widths, 45, names) == [20, 18, 3]
    assert fitted(columns, widths, 30, names) == [15, 8, 3]
    assert fitted(columns, widths, 5, names) == [7, 4, 3]


def test_a_mark_on_a_letter_takes_no_room() -> None:
    assert width_of("e\u0301") == 1
    assert width_of("\uff57") == 2
