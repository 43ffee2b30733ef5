"""Finding and reading the settings, for the commands of the service."""

from __future__ import annotations

import os
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from broker.settings import Settings


def add_config(parser: ArgumentParser) -> None:
    """Add `--config FILE`."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the settings; default: BROKER_CONFIG, else broker.toml"
    )


def named_path(arguments: Namespace) -> Path | None:
    """Answer the file that the command line or the environment names; None when neither does."""
    named = arguments.config or os.environ.get("BROKER_CONFIG")
    return Path(named) if named else None


def path_of(arguments: Namespace) -> Path:
    """Answer the file of the settings."""
    return named_path(arguments) or Path("broker.toml")


def settings_of(arguments: Namespace) -> Settings:
    """Read the settings; raises SettingsError with every problem."""
    from broker.settings import load

    return load(path_of(arguments))
