"""Operators hear when an anchor of the log stops taking checkpoints, and when it takes them again."""

from __future__ import annotations

from structlog.testing import capture_logs

from broker.housekeeping import report_anchor


def test_trouble_is_an_error_and_its_end_is_told_too() -> None:
    with capture_logs() as lines:
        report_anchor("vault", "takes no checkpoint since 2026-01-31T09:30:00.000Z (no answer in time)")
        report_anchor("vault", "")
    assert [(line["log_level"], line["anchor"], line.get("detail", "")) for line in lines] == [
        ("error", "vault", "takes no checkpoint since 2026-01-31T09:30:00.000Z (no answer in time)"),
        ("info", "vault", ""),
    ]
