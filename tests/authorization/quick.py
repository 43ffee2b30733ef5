"""Policies from text within this process: for trusted text and many sets. The broker itself asks a child."""

from broker.authorization.checking import check_file
from broker.authorization.loading import rule_from
from broker.authorization.snapshot import PolicySnapshot


def quick(text: str) -> PolicySnapshot:
    """Check `text` in this process and answer the snapshot; it must be sound."""
    lines = [line for line in check_file(text) if "at" not in line]
    assert not [line for line in lines if "message" in line], lines
    return PolicySnapshot([rule_from({"file": "test.cedar", **line}) for line in lines], {"test.cedar": "00"})
