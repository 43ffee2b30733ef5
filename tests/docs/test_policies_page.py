"""The commands in docs/policies.md run as they stand there, and print what stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from broker.authorization.loading import snapshot_of

PAGE = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
CONSOLE = "".join(re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
COMMAND = re.compile(r"^\$ (?P<typed>.*<<'END'\n(?:.*\n)*?END|.*)\n(?P<shown>(?:(?!\$ ).*\n)*)", re.MULTILINE)


def test_the_tutorial_does_what_it_shows(tmp_path: Path) -> None:
    commands = list(COMMAND.finditer(CONSOLE))
    assert len(commands) == 11
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        ran = subprocess.run(
            ["sh", "-c", command["typed"]],
            cwd=tmp_path,
            env={"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.stdout == command["shown"], command["typed"] + ran.stderr


def test_the_policies_of_the_guide_are_valid() -> None:
    for text in re.findall(r"^```cedar\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        assert snapshot_of(text).rules
