from collections.abc import Callable

import pytest

from broker.authorization.syntax import MAX_DEPTH, Places, pieces


def texts(text: str) -> list[str]:
    return [piece.text for piece in pieces(text)]


def test_policies_end_at_a_semicolon_outside_strings_and_comments() -> None:
    assert texts('// a; b\na "x;\\"; //" ; b // ; c\n d;\n') == ['a "x;\\"; //" ;', "b // ; c\n d;"]


def test_a_carriage_return_ends_a_comment_as_it_does_for_cedar() -> None:
    assert texts("// harmless\rforbid;") == ["forbid;"]


def test_what_has_no_end_is_a_piece_too() -> None:
    assert texts("a; b // c") == ["a;", "b // c"]


@pytest.mark.parametrize(
    "nest",
    [
        lambda n: "(" * n + ")" * n,
        lambda n: "[" * n + "]" * n,
        lambda n: "{" * n + "}" * n,
        lambda n: "!" * n,
        lambda n: "- " * n,
        lambda n: "!(" * (n // 2) + "!" * (n - n // 2) + ")" * (n // 2),
    ],
)
def test_nesting_is_bounded(nest: Callable[[int], str]) -> None:
    assert [piece.fault for piece in pieces(nest(MAX_DEPTH) + ";")] == [""]
    assert "deeper" in next(pieces(nest(MAX_DEPTH + 1) + ";")).fault


def test_brackets_in_strings_and_comments_do_not_nest() -> None:
    assert [piece.fault for piece in pieces('"' + "(" * 500 + '" // ' + "(" * 500 + "\n;")] == [""]


def test_an_open_string_is_named() -> None:
    assert "string" in next(pieces('permit("abc;')).fault


def test_a_policy_is_at_most_64_kib() -> None:
    assert "64 KiB" in next(pieces('"' + "é" * 33_000 + '";')).fault


def test_places_count_lines_and_columns_from_one() -> None:
    place = Places("ab\ncd\n")
    assert [place(0), place(2), place(3), place(4)] == [(1, 1), (1, 3), (2, 1), (2, 2)]
