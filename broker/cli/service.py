"""The service that the environment names, for commands that ask it."""

from __future__ import annotations

import os

from broker.cli.output import talk
from broker.client import Broker


def service() -> Broker:
    """Answer the service. The token leaves the environment here, so that no child process inherits it."""
    broker = Broker.from_environment(os.environ)
    if os.environ.pop("BROKER_TOKEN", None) is None and (path := os.environ.get("BROKER_TOKEN_FILE")):
        _warn_of_readers(path)
    return broker


def _warn_of_readers(path: str) -> None:
    """Warn, and no more: a Kubernetes projected token is 0644 unless its `defaultMode` says otherwise."""
    try:
        others = os.stat(path).st_mode & 0o077  # noqa: PTH116  # pathlib alone costs a call five milliseconds
    except OSError:
        return  # the reading of it, right after this, says so better
    if others:
        talk("warning: others can read the file in BROKER_TOKEN_FILE; chmod 600 keeps the token yours")
