"""What is sent to a witness, and how its answers are read."""

from __future__ import annotations

import pytest

from broker.errors import UpstreamUnavailable
from broker.outbound.http import Answer
from broker.outbound.witnesses import Reply, connected, reply, request

SIZE = {"Content-Type": "text/x.tlog.size"}


def test_a_request_has_old_size_proof_and_note() -> None:
    assert request(7, ["AAA=", "BBB="], "origin\n9\nroot\n\n\u2014 sig\n").decode() == (
        "old 7\nAAA=\nBBB=\n\norigin\n9\nroot\n\n\u2014 sig\n"
    )
    assert request(0, [], "note\n") == b"old 0\n\nnote\n"


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        (Answer(200, b"\xe2\x80\x94 w abc\n", {}), Reply(200, lines="\u2014 w abc\n")),
        (Answer(409, b"20\n", SIZE), Reply(409, size=20)),
        (Answer(409, b"0\n", {"content-type": "text/x.tlog.size; charset=utf-8"}), Reply(409, size=0)),
        (Answer(409, b"20", SIZE), Reply(409)),
        (Answer(409, b"020\n", SIZE), Reply(409)),
        (Answer(409, b"-1\n", SIZE), Reply(409)),
        (Answer(409, b"20\n", {"Content-Type": "text/plain"}), Reply(409)),
        (Answer(409, b"9" * 40 + b"\n", SIZE), Reply(409)),
        (Answer(422, b"no", {}), Reply(422)),
        (Answer(200, b"\xff", {}), Reply(200)),
        (
            Answer(200, "\u2014 w abc\n\norigin\n9\nroot\n\n\u2014 v d\n".encode(), {}),
            Reply(200, lines="\u2014 w abc\n\u2014 v d\n"),
        ),
        (Answer(200, "\u2014 w a".encode() * 2000, {}), Reply(200)),
        (Answer(200, "\u2014 w a\n".encode() * 2000, {}), Reply(200, lines="\u2014 w a\n" * 16)),
    ],
)
def test_only_what_is_as_it_should_be_is_read(answer: Answer, read: Reply) -> None:
    assert reply(answer) == read


@pytest.mark.parametrize(("allow_private", "words"), [(True, "ClientConnectorError"), (False, "a private address")])
async def test_a_witness_that_cannot_be_asked_is_out_of_reach(words: str, *, allow_private: bool) -> None:
    async with connected("http://127.0.0.1:9/", allow_private=allow_private) as ask:
        with pytest.raises(UpstreamUnavailable, match=words):
            await ask(0, [], "note\n")
