import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import InvalidToken
from broker.identity.authenticator import Authenticator
from broker.identity.preparser import MAX_TOKEN, parse
from broker.identity.strictjson import NotStrictJson, parse_object
from tests.doubles.identity import Mint, accepted, as_json, b64, cause_of

HEADER = as_json({"alg": "RS256", "kid": "k", "typ": "at+jwt"})


def token_of(payload: bytes, header: bytes = HEADER) -> str:
    return f"{b64(header)}.{b64(payload)}.AAAA"


def cause_of_shape(token: str) -> str:
    with pytest.raises(InvalidToken) as refusal:
        parse(token)
    return refusal.value.cause


def test_a_well_formed_token_is_taken_apart_and_shows_nothing_of_itself() -> None:
    token = parse(token_of(b'{"sub":"alice"}'))
    assert (token.algorithm, token.key_id, token.type, token.claims) == ("RS256", "k", "at+jwt", {"sub": "alice"})
    assert "alice" not in repr(token)
    assert token.signing_input.decode() + ".AAAA" == token_of(b'{"sub":"alice"}')


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "AAAA.AAAA",
        "AAAA.AAAA.AAAA.AAAA",
        "AAAA..AAAA",
        "AAAA.AAAA.",
        ".AAAA.AAAA",
        token_of(b"{}") + "=",
        token_of(b"{}") + "\n",
        " " + token_of(b"{}"),
        token_of(b"{}").replace(".", "\uff0e"),
        token_of(b"{}").replace("A", "\u0410"),
        token_of(b"{}").replace("AAAA", "AA+/"),
        token_of(b"{}").replace("AAAA", "AA%3D"),
        token_of(b"{}").replace("AAAA", "A A A"),
        token_of(b"{}").replace("AAAA", "AAA\x00"),
    ],
)
def test_what_is_not_three_base64url_segments_is_refused(token: str) -> None:
    assert cause_of_shape(token) == "malformed"


def test_a_segment_has_exactly_one_text(mint: Mint) -> None:
    """Spare bits of the last character must be zero, or one token would have several hashes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = mint.token()
    twins = [token[:-1] + letter for letter in alphabet if letter != token[-1]]
    same_bytes = [twin for twin in twins if _signature(twin) == _signature(token)]
    assert same_bytes
    assert {cause_of_shape(twin) for twin in same_bytes} == {"malformed"}


def _signature(token: str) -> bytes:
    return base64.urlsafe_b64decode(token.rpartition(".")[2] + "==")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"sub":"alice","sub":"admin"}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":0.' + b"1" * 5000 + b"}",
        b'{"a":1_000}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\u0000"}',
        b'{"a":"a\\r\\nb"}',
        b'{"a":"\\u202e"}',
        b'{"\\u2066":1}',
        b'{"a":["\xe2\x80\xae"]}',
        b'{"a":"\x7f"}',
        b'{"a":"\x00"}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a":1}',
        b"[]",
        b'"text"',
        b"null",
        b"1",
        b"{}{}",
        b'{"a":1,}',
        b"{'a':1}",
        b"{",
        b'{"a":"' + b"\\" * 2001 + b'"}',
        b"",
    ],
)
def test_what_is_not_a_strict_json_object_is_refused(payload: bytes) -> None:
    assert cause_of_shape(token_of(payload)) == "malformed"
    assert cause_of_shape(token_of(b"{}", header=payload)) == "malformed"


def test_ordinary_json_is_read_as_usual() -> None:
    document = b' {\n "n": -1.5e3, "e": "\\u00e9\\n"}'.replace(b"\\n", b"!") + b" "
    assert parse_object(document, max_depth=4) == {"n": -1500.0, "e": "\xe9!"}


def test_brackets_inside_strings_are_not_nesting() -> None:
    text = "[{" * 50 + '"\\'
    assert parse_object(json.dumps({"a": text}).encode(), max_depth=2) == {"a": text}
    with pytest.raises(NotStrictJson):
        parse_object(json.dumps({"a": [text, {}]}).encode(), max_depth=2)


def test_as_deep_as_may_be_and_no_deeper() -> None:
    document = b'{"a":[[1],[2],[3]]}'
    assert parse_object(document, max_depth=3) == {"a": [[1], [2], [3]]}
    with pytest.raises(NotStrictJson):
        parse_object(document, max_depth=2)


@pytest.mark.parametrize("depth", [17, 2_000, 5_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_refused_without_recursion(opening: bytes, closing: bytes, depth: int) -> None:
    for payload in (b'{"a":' + opening * depth + b"1" + closing * depth + b"}", b'{"a":' + opening * depth):
        assert cause_of_shape(token_of(payload)) == "malformed"
        with pytest.raises(NotStrictJson):
            parse_object(payload, max_depth=16)


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "k"},
        {"alg": 1},
        {"alg": None},
        {"alg": ["RS256"]},
        {"alg": "RS256", "typ": 1},
        {"alg": "RS256", "typ": ""},
        {"alg": "RS256", "kid": None},
        {"alg": "RS256", "ALG": "none"},
        {"alg": "RS256", "x5t": ["a"]},
        {"alg": "RS256", "iss": "https://id.example.com"},
    ],
)
def test_a_header_member_that_is_missing_wrong_or_unknown_is_refused(header: dict[str, object]) -> None:
    assert cause_of_shape(token_of(b"{}", header=as_json(header))) == "bad_header"


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf", "auth_time"])
@pytest.mark.parametrize(
    "value",
    ["1772366400", 1772366400.5, 1772366400.0, True, None, [], {}, -1, 0, 999_999_999, 1772366400000, "\u0661\u0662"],
)
def test_a_date_is_a_whole_number_of_seconds_within_reason(claim: str, value: object) -> None:
    assert cause_of_shape(token_of(as_json({claim: value}))) == "bad_date"


def test_the_longest_token_is_8_kib() -> None:
    longest = token_of(b"{}")
    longest += "A" * (MAX_TOKEN - len(longest))
    longest = longest[: len(longest) - len(longest.rpartition(".")[2]) % 4]
    assert parse(longest).signature
    assert cause_of_shape("A" * (MAX_TOKEN + 1)) == "malformed"


@pytest.mark.parametrize(
    "token",
    [
        "A" * (MAX_TOKEN + 1),
        "A" * 10_000_000,
        "A" * MAX_TOKEN,
        ("A." * MAX_TOKEN)[:MAX_TOKEN],
        token_of(b'{"a":' + b"[" * 6000),
        token_of(b'{"a":"' + b'\\"' * 2950),
        token_of(b'{"a":' + b'"["' * 1900),
        token_of(b'{"a":[' + b'"' * 5900 + b"\\"),
        token_of(b'{"a":' + b"1" * 5900),
        token_of(b"{" + b'"a":1,' * 980),
    ],
)
def test_hostile_input_costs_next_to_nothing(token: str) -> None:
    best = float("inf")
    for _ in range(3):
        started = time.thread_time()
        cause_of_shape(token)
        best = min(best, time.thread_time() - started)
    assert best < (0.000_2 if len(token) > MAX_TOKEN else 0.005)


async def test_the_fastest_way_to_refuse_is_by_length(door: Authenticator) -> None:
    assert await cause_of(door, "A" * 10_000_000) == "bad_authorization"


async def test_a_name_in_any_script_is_a_name(door: Authenticator, mint: Mint) -> None:
    caller = await accepted(door, mint.token(sub="\u0410\u043d\u043d\u0430", groups=["\u5f00\u53d1"]))
    assert (caller.subject, caller.groups) == ("\u0410\u043d\u043d\u0430", ("\u5f00\u53d1",))


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=80))
def test_nothing_but_invalid_token_leaves_the_pre_parser(header: bytes, payload: bytes, signature: bytes) -> None:
    try:
        parse(f"{b64(header)}.{b64(payload)}.{b64(signature)}")
    except InvalidToken as refusal:
        assert refusal.cause in {"malformed", "bad_header", "bad_date"}  # noqa: PT017 - either outcome is right


@given(st.text(max_size=200))
def test_no_text_at_all_breaks_it(text: str) -> None:
    try:
        parse(text)
    except InvalidToken as refusal:
        assert refusal.cause == "malformed"  # noqa: PT017 - either outcome is right
