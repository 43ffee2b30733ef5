from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.identity import CORP


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": ""}, "name is not"),
        ({"name": "a/b"}, "name is not"),
        ({"issuer": ""}, "must not be empty"),
        ({"audience": ""}, "must not be empty"),
        ({"subject_claim": ""}, "must not be empty"),
        ({"algorithms": ()}, "algorithms must be"),
        ({"algorithms": ("none",)}, "algorithms must be"),
        ({"algorithms": ("RS256", "HS256")}, "algorithms must be"),
        ({"token_types": ()}, "token_types"),
        ({"max_token_age": timedelta(0)}, "max_token_age"),
        ({"jwks_file": Path("a"), "jwks_uri": "https://id.example.com/keys"}, "exclude each other"),
    ],
)
def test_an_issuer_that_contradicts_itself_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        replace(CORP, **change)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"audience.*algorithms"):
        replace(CORP, audience="", algorithms=("HS256",))
