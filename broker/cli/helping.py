"""The help of a command or a verb, in the order of a manual page and as wide as the terminal."""

from __future__ import annotations

import re
import sys
from argparse import SUPPRESS, HelpFormatter
from textwrap import wrap

from broker.cli.output import bold, terminal_width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Action
    from collections.abc import Iterator, Mapping

    from broker.cli.parsing import Parser

WIDEST = 100
NARROWEST = 40
PIPED = 80

_HEADING = re.compile(r"^(?:[a-z][a-z ]*:$|usage:)", re.MULTILINE)
_INDENT = "  "


class _Formatter(HelpFormatter):
    """As argparse's, but each option tells its default."""

    def __init__(self, prog: str, width: int) -> None:
        super().__init__(prog, max_help_position=28, width=width)

    def _get_help_string(self, action: Action) -> str | None:
        text, default = action.help, action.default
        told = text is None or "default" in text or not action.option_strings
        if told or default is SUPPRESS or not isinstance(default, int | str) or isinstance(default, bool):
            return text
        return f"{text} (default: {default})" if default != "" else text


def help_of(parser: Parser) -> str:
    """Write it."""
    width = max(NARROWEST, min(WIDEST, terminal_width(sys.stdout) or PIPED))
    formatter = _Formatter(parser.prog, width - 2)
    formatter.add_usage(_usage(parser, width), parser._actions, parser._mutually_exclusive_groups)  # noqa: SLF001  # as argparse does
    formatter.add_text(parser.description)
    for group in parser._action_groups:  # noqa: SLF001  # same
        formatter.start_section(group.title)
        formatter.add_arguments(group._group_actions)  # noqa: SLF001  # same
        formatter.end_section()
    parts = [formatter.format_help().rstrip(), *_paragraphs(parser.epilog or "", width), *_sections(parser, width)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    return _HEADING.sub(lambda found: bold(found[0], sys.stdout), text)


def _usage(parser: Parser, width: int) -> str | None:
    """Fill a usage line that is a command's own; None leaves it to argparse."""
    if not parser.usage:
        return None
    lead = len(f"usage: {parser.prog} ")
    words = re.findall(r"\[[^\]]*\]|\S+", parser.usage.removeprefix(parser.prog))
    filled = wrap("\n".join(word.replace(" ", "\0") for word in words), width - lead, break_on_hyphens=False)
    return f"{parser.prog} " + ("\n" + " " * lead).join(filled).replace("\0", " ")


def examples_of(parser: Parser) -> list[tuple[str, str]]:
    """Answer commands, and what each does; a command that has verbs shows the first example of each."""
    told = parser.examples.splitlines()
    if not told:
        told = [verb.examples.partition("\n")[0] for verb in verbs_of(parser).values() if verb.examples]
    split = (line.partition(" # ") for line in told)
    return [(command.rstrip(), why.strip()) for command, _, why in split]


def verbs_of(parser: Parser) -> Mapping[str, Parser]:
    """Answer the verbs of a command by their names."""
    choices = (action.choices for action in parser._actions if action.nargs == "A...")  # noqa: SLF001  # PARSER
    return next((dict(found) for found in choices if isinstance(found, dict)), {})


def _sections(parser: Parser, width: int) -> Iterator[str]:
    if examples := examples_of(parser):
        yield "examples:\n" + _shown(examples, width)
    if parser.exits:
        yield "exit codes:\n" + "\n".join(_hanging(f"{code:>5}  ", text, width) for code, text in parser.exits.items())
    if parser.see:
        yield "see also:\n" + _hanging(_INDENT, parser.see, width)


def _shown(examples: list[tuple[str, str]], width: int) -> str:
    """Put what an example does beside it, or above where that is too wide."""
    column = max(len(command) for command, _ in examples)
    if all(len(_INDENT) + column + len("  # ") + len(why) <= width for _, why in examples):
        return "\n".join(
            f"{_INDENT}{command:<{column}}  # {why}".removesuffix("  # ").rstrip() for command, why in examples
        )
    return "\n".join(
        line
        for command, why in examples
        for line in (*wrap(why, width, initial_indent="  # ", subsequent_indent="  # "), _INDENT + command)
    )


def _paragraphs(text: str, width: int) -> Iterator[str]:
    """Fill paragraphs; what is indented keeps its lines."""
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        lines: list[str] = []
        for line in paragraph.splitlines():
            follows = bool(lines) and not line.startswith(" ") and not lines[-1].startswith(" ")
            if follows and not lines[-1].endswith(":"):
                lines[-1] += " " + line
            else:
                lines.append(line)
        yield "\n".join(_hanging("", line, width) for line in lines)


def _hanging(indent: str, text: str, width: int) -> str:
    """Fill a line; what does not fit goes on below its last column."""
    found = re.match(r"( *\S+(?: \S+)* {2,}| *)", text)
    hang = len(indent) + (len(found[0]) if found else 0)
    if len(indent) + len(text) <= width:
        return indent + text
    lead = text[: hang - len(indent)]
    return "\n".join(
        wrap(
            text[len(lead) :],
            width,
            initial_indent=indent + lead,
            subsequent_indent=" " * hang,
            break_on_hyphens=False,
            break_long_words=False,
        )
    )
