"""The command line's parser: as argparse's, but it complains in one line and guesses at a mistyped option."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, HelpFormatter

from broker.cli.exits import Exit
from broker.cli.output import plain, red

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Action, Namespace, _SubParsersAction
    from collections.abc import Mapping, Sequence
    from typing import Any, Never

_USUAL_WIDTH = 80


def guide(parser: ArgumentParser, examples: str, exits: Mapping[int, str] | None = None, *, see: str = "") -> None:
    """Complete the help of a command or a verb.

    Args:
        parser: a `Parser`, any other is left as it is; its `epilog`, if it has one, stands before all this.
        examples: commands that are true, one a line, each with what it does behind ` # `.
        exits: what exit codes mean here, where they say more than `broker --help`.
        see: the commands to look at next, with commas between them.
    """
    if isinstance(parser, Parser):
        parser.examples, parser.exits, parser.see = examples, exits or {}, see


class Parser(ArgumentParser):
    """Of a command, and of each of its verbs."""

    def __init__(self, *, description: str, **others: Any) -> None:  # noqa: ANN401  # as argparse's stubs have it
        self._options: list[str] = []
        self.has_verbs = False
        self.usual_verb = ""
        """What is meant where none is named; "" when one has to be."""
        self._words: list[str] = []
        self._rest = ""
        self.examples, self.see = "", ""
        self.exits: Mapping[int, str] = {}
        sentence = f"{description[0].upper()}{description[1:].removesuffix('.')}."
        super().__init__(description=sentence, **others | {"allow_abbrev": False})
        self._positionals.title = "arguments"

    def add_argument(self, *names: str, **others: Any) -> Action:  # noqa: ANN401  # as argparse's stubs have it
        """Add an argument, and remember an option's names."""
        self._options += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **others)

    def add_subparsers(self, **others: Any) -> _SubParsersAction[Any]:  # noqa: ANN401  # as argparse's stubs have it
        """Make room for verbs."""
        self.has_verbs = True
        return super().add_subparsers(title="verbs", **others)

    def _get_formatter(self) -> HelpFormatter:
        """Answer a formatter, given a width: argparse would import shutil on every call to measure the terminal."""
        return HelpFormatter(self.prog, width=_USUAL_WIDTH)

    def format_help(self) -> str:
        """Write the help: purpose, arguments, options, and what `guide` was told."""
        from broker.cli.helping import help_of

        return help_of(self)

    def take_rest(self, name: str) -> None:
        """Take what stands behind `--` as it is: argparse loses it where options stand before it."""
        self._rest = name

    def parse_known_args(  # type: ignore[override]  # what is not known is refused here, by the verb that was given it
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> tuple[Namespace, list[str]]:
        """Parse, and refuse what is left over."""
        self._words = [*(args or ())]
        end = self._words.index("--") if self._rest and "--" in self._words else len(self._words)
        known, others = super().parse_known_args(self._words[:end], namespace)
        if self._rest:
            setattr(known, self._rest, self._words[end + 1 :])
        if others:
            self.error(f"there is no place for {others[0]!r}")
        return known, []

    def error(self, message: str) -> Never:
        """Say in one line what is wrong, and end."""
        sentence = self._mistyped() or message
        sys.stderr.write(f"{red(f'{self.prog}:', sys.stderr)} {plain(sentence)}; see {self.prog} --help\n")
        raise SystemExit(Exit.USAGE)

    def _mistyped(self) -> str:
        """Name the first option that there is not. It is the cause, whatever argparse stumbled on first."""
        own = self._words[: self._words.index("--")] if "--" in self._words else self._words
        options = [word.partition("=")[0] for word in own if word.startswith("--")]
        unknown = next((option for option in options if option not in {*self._options, "--help"}), None)
        if unknown is None or self.has_verbs:
            return ""
        from difflib import get_close_matches

        close = get_close_matches(unknown, self._options, n=1)
        return f"there is no option {unknown}" + (f" (did you mean {close[0]}?)" if close else "")
