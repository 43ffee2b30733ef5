"""The layout of policies: stable, with all comments, and never of another meaning."""

import json

import pytest
from cedarpy import policies_to_json_str

from broker.authorization.formatting import Unformattable, format_text, formatted

UGLY = """// of the file


// of a
@id("a")permit(principal,action,resource)when{ // why
 context.mfa // ho
}; // behind a
// of b
@id("b") permit(principal, action, resource);@id("c") forbid(principal,action,resource)unless{context.bound};


// at the end

"""


def test_comments_stay_and_the_second_time_changes_nothing() -> None:
    once = format_text(UGLY)
    assert format_text(once) == once
    for comment in (
        "// of the file\n\n// of a\n@id",
        "// why",
        "// ho",
        "}; // behind a\n\n// of b\n",
        "// at the end",
    ):
        assert comment in once
    assert json.loads(policies_to_json_str(once)) == json.loads(policies_to_json_str(UGLY))


def test_a_thousand_policies_are_one_question_to_a_child() -> None:
    text = "".join(f'@id("p{number}")permit(principal,action,resource);' for number in range(1000))
    done, problems = formatted({"a": text})
    assert (done["a"].count("@id"), problems) == (1000, [])


def test_what_does_not_parse_is_named_with_its_place() -> None:
    with pytest.raises(Unformattable) as refused:
        format_text('@id("a") permit(principal, action, resource);\n @id("b") permit(')
    assert refused.value.offset == 47


def test_a_policy_that_kills_the_parser_is_a_problem_and_no_crash() -> None:
    killer = f'@id("k") permit(principal, action, resource) when {{ true{".a" * 30_000} }};'
    done, problems = formatted({"good": UGLY, "killer": killer})
    assert done.keys() == {"good"}
    assert "did not survive" in str(problems[0])
