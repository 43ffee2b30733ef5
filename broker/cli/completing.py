"""What a shell may offer next: the hidden `broker complete SHELL WORDS…`, which the scripts of `broker completion` ask.

It is read from the parsers themselves, so nothing can be offered that there is not. The last word is the one that is
being typed. Each line of the answer is a candidate, with a tab and its meaning behind it where it has one, or
`:files` or `:directories`, which the shell knows better.
"""

from __future__ import annotations

import os
import re
import sys
from typing import NamedTuple

from broker.cli.helping import verbs_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Action
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from broker.cli.parsing import Parser

FILES, DIRECTORIES = ":files", ":directories"
PATIENCE = 1.0
"""Seconds that the service has to name the instances: somebody waits at a prompt."""

_MANY = {"+", "*", "..."}


class Candidate(NamedTuple):
    """A word, and what it means."""

    word: str
    meaning: str = ""


def run(words: Sequence[str]) -> int:
    """Answer the shell; whatever goes wrong, it offers nothing and says nothing."""
    from broker.cli.main import COMMANDS, parser_of

    *before, typed = _joined(words[1:]) or [""]
    commands = {name: summary for name, (_, summary) in COMMANDS.items()}
    try:
        found = list(candidates(before, typed, commands, parser_of))
    except Exception:  # noqa: BLE001  # such as a library of the service that is not installed
        return 0
    # bash takes the `=` of an option for a word of its own, and so its value alone for what is being typed
    lead = typed.partition("=")[0] + "=" if words[:1] == ["bash"] and typed.startswith("--") and "=" in typed else ""
    for each in found:
        sys.stdout.write("\t".join(part for part in (each.word.removeprefix(lead), _line(each.meaning)) if part) + "\n")
    return 0


def candidates(
    before: Sequence[str], typed: str, commands: dict[str, str], parser_of: Callable[[str], Parser]
) -> Iterator[Candidate]:
    """Answer what may stand where `typed` does, after the words `before`."""
    if before and before[0] == "help":
        before = before[1:]
        if typed.startswith("-"):
            return
    if not before:
        offered = [Candidate(name, summary) for name, summary in commands.items()]
        others = [Candidate("help", "explain a command"), Candidate("--help"), Candidate("--version")]
        yield from _beginning([*offered, *others], typed)
    elif before[0] in commands:
        yield from _beginning(_arguments(parser_of(before[0]), before[1:], typed), typed)


def instances() -> list[str]:
    """Answer the names of the instances that I may reach, at most a few minutes old; none when they cannot be had."""
    from broker.client import Broker
    from broker.client.names_cache import FRESH, NamesCache

    cache = NamesCache(lambda: Broker.from_environment(os.environ), os.environ, patience=PATIENCE)
    cache.refresh(older_than=FRESH)
    return cache.names


# -- one command


def _arguments(parser: Parser, before: Sequence[str], typed: str) -> Iterator[Candidate]:
    verbs = verbs_of(parser)
    if verbs and before and before[0] in verbs:
        yield from _arguments(verbs[before[0]], before[1:], typed)
        return
    if "--" in before:
        yield Candidate(FILES)  # of the program that stands there
        return
    place = _Place(parser, before)
    option, equals, _ = typed.partition("=")
    if place.wanting:
        yield from _values(place.wanting)
    elif equals and (named := place.options.get(option)):
        yield from (Candidate(each.word if each.word[0] == ":" else f"{option}={each.word}") for each in _values(named))
    elif typed.startswith("-"):
        yield from place.left()
    elif verbs:
        yield from (Candidate(name, _summary(parser, name)) for name in verbs)
    elif place.positional:
        yield from _values(place.positional)


class _Place:
    """Where in a command line the cursor is: behind an option that wants a value, or at an argument."""

    def __init__(self, parser: Parser, before: Sequence[str]) -> None:
        actions = parser._actions  # noqa: SLF001  # argparse has no other way to walk them
        self.options = {name: action for action in actions for name in action.option_strings}
        self.wanting: Action | None = None
        self._used: set[str] = set()
        count = 0
        for word in before:
            if self.wanting:
                self.wanting = None
            elif word in self.options:
                self._used.add(word)
                self.wanting = self.options[word] if self.options[word].nargs is None else None
            elif word.startswith("-") and word != "-":
                self._used.add(word.partition("=")[0])
            else:
                count += 1
        arguments = [action for action in actions if not action.option_strings]
        repeated = arguments[-1] if arguments and arguments[-1].nargs in _MANY else None
        self.positional = arguments[count] if count < len(arguments) else repeated

    def left(self) -> Iterator[Candidate]:
        """Answer the options that are not there yet, or may be there again."""
        for name, action in self.options.items():
            again = type(action).__name__ == "_AppendAction"
            if name.startswith("--") and (again or name not in self._used):
                yield Candidate(name, action.help or "")


def _values(action: Action) -> Iterator[Candidate]:
    """Answer what an argument takes, as its choices or the word that stands for it tell."""
    if action.choices is not None:
        yield from (Candidate(str(choice)) for choice in action.choices)
        return
    kinds = set(str(action.metavar).split("|"))
    if "INSTANCE" in kinds:
        yield from map(Candidate, instances())
    if "FILE" in kinds:
        yield Candidate(FILES)
    elif "DIR" in kinds:
        yield Candidate(DIRECTORIES)


def _summary(parser: Parser, verb: str) -> str:
    texts = (each for action in parser._actions for each in getattr(action, "_choices_actions", ()))  # noqa: SLF001  # as above
    return next((str(each.help) for each in texts if each.dest == verb), "")


def _beginning(found: Iterable[Candidate], typed: str) -> Iterator[Candidate]:
    return (each for each in found if each.word.startswith(typed) or each.word in {FILES, DIRECTORIES})


def _joined(words: Sequence[str]) -> list[str]:
    """Put `--option`, `=` and its value together where bash took them apart."""
    joined: list[str] = []
    for word in words:
        after_equals = bool(joined) and re.fullmatch(r"--[a-z-]+=", joined[-1]) is not None
        if after_equals or (word == "=" and joined and joined[-1].startswith("--")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _line(text: str) -> str:
    return " ".join(text.replace("%%", "%").split())
