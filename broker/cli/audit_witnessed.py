"""`--witness` of `broker audit verify`: which witnesses must have cosigned, and what to say about it."""

from __future__ import annotations

from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from broker.audit.anchors.witnessed import Seen


def add_witness(parser: ArgumentParser) -> None:
    """Add the argument."""
    parser.add_argument(
        "--witness",
        action="append",
        default=[],
        metavar="VKEY|@FILE",
        help="a witness that must have cosigned the newest checkpoint kept elsewhere: its key name+hash+key",
    )


def seen(arguments: Namespace, outside: Sequence[str]) -> Sequence[Seen]:
    """Answer whether and when each witness cosigned the newest of the checkpoints kept elsewhere.

    Raises:
        CannotVerify: when none was given.
        CheckpointError: when a key is none.
    """
    from broker.audit.anchors.cosignatures import WitnessKey
    from broker.audit.anchors.witnessed import seen_by
    from broker.audit.evidence import CannotVerify

    if not arguments.witness:
        return ()
    if not outside:
        raise CannotVerify("--witness is about checkpoints kept elsewhere: give them with --checkpoint or --anchor")
    texts = [Path(text[1:]).read_text(errors="replace") if text[:1] == "@" else text for text in arguments.witness]
    return seen_by([WitnessKey.parse(text) for text in texts], outside)


def sentences(found: Sequence[Seen]) -> Sequence[str]:
    """Say which witness saw how much, and when: what was cosigned long ago may have been cut since."""
    from broker.model import rfc3339

    return [f"cosigned by {each.witness} at {rfc3339(each.time)}, {each.size} events" for each in found if each.time]


def documents(found: Sequence[Seen]) -> list[dict[str, object]]:
    """Answer the same for programs."""
    from broker.model import rfc3339

    return [{"witness": each.witness, "size": each.size, "time": each.time and rfc3339(each.time)} for each in found]
