import base64
import json

import pytest

from broker.client.tokens import advice

NOW = 1_800_000_000.0
REMEDY = "get a new token"
UNKNOWN = f"{REMEDY}; if that is refused too, give an operator the request id"


def token(claims: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()}.c2ln"


@pytest.mark.parametrize(
    ("ago", "span"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (485, "8 minutes"),
        (3 * 3600, "3 hours"),
        (5 * 86_400, "5 days"),
    ],
)
def test_a_token_that_has_expired_says_since_when(ago: int, span: str) -> None:
    assert advice(token({"exp": NOW - ago}), NOW, REMEDY) == f"your token expired {span} ago; get a new token"


@pytest.mark.parametrize(
    "shown",
    [
        token({"exp": NOW + 1}),
        token({"sub": "alice"}),
        token({"exp": "1"}),
        token({"exp": True}),
        token({"exp": -1}),
        token({"exp": float("inf")}),
        token({"exp": float("nan")}),
        token(["exp"]),
        token("exp"),
        token(7),
        "opaque",
        "a.b.c",
        "a.\u00e9.c",
        "..",
        "e30." + base64.urlsafe_b64encode(b"[" * 30_000).decode() + ".x",
    ],
)
def test_of_any_other_token_it_says_what_helps(shown: str) -> None:
    assert advice(shown, NOW, REMEDY) == UNKNOWN
