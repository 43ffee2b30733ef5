"""The command line's parser: as argparse's, but it complains in one line and guesses at a mistyped option."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from functools import partial

from broker.cli.exits import Exit
from broker.cli.output import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Action, Namespace, _SubParsersAction
    from collections.abc import Sequence
    from typing import Any, Never

WIDTH = 90
"""Of help texts. Given, because argparse would import shutil on every call to measure the terminal."""


class Parser(ArgumentParser):
    """Of a command, and of each of its verbs."""

    def __init__(self, *, description: str, **others: Any) -> None:
        self._options: list[str] = []
        self.has_verbs = False
        sentence = f"{description[0].upper()}{description[1:].removesuffix('.')}."
        others |= {"formatter_class": partial(RawDescriptionHelpFormatter, width=WIDTH), "allow_abbrev": False}
        super().__init__(description=sentence, **others)

    def add_argument(self, *names: str, **others: Any) -> Action:  # type: ignore[override]  # no named parameters
        """Add an argument, and remember an option's names."""
        if others.get("help") is not SUPPRESS:
            self._options += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **others)

    def add_subparsers(self, **others: Any) -> _SubParsersAction[Any]:
        """Make room for verbs."""
        self.has_verbs = True
        return super().add_subparsers(**others)

    def parse_known_args(  # type: ignore[override]  # what is not known is refused here, by the verb that was given it
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> tuple[Namespace, list[str]]:
        """Parse, and refuse what is left over."""
        known, others = super().parse_known_args(args, namespace)
        if others:
            self.error(self._unknown(others))
        return known, []

    def error(self, message: str) -> Never:
        """Say in one line what is wrong, and end."""
        sys.stderr.write(f"{self.prog}: {plain(message)}; see {self.prog} --help\n")
        raise SystemExit(Exit.USAGE)

    def _unknown(self, others: list[str]) -> str:
        from difflib import get_close_matches

        option = next((word.partition("=")[0] for word in others if word.startswith("-")), None)
        if option is None:
            return f"there is no place for {others[0]!r}"
        close = get_close_matches(option, self._options, n=1)
        return f"there is no option {option}" + (f", did you mean {close[0]}?" if close else "")
