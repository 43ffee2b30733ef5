"""The programs in docs/client.md run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.client import Answer, Authority, ServiceDouble, instance, page, ssh_credential

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_page_shows_programs() -> None:
    assert len(PROGRAMS) == 4


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_of_the_page_runs(program: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "token").write_text("header.claims.signature\n")
    with ServiceDouble(authority.server_context()) as service:
        service.tell("GET /v1/instances", page(instance("web-1"), instance("db-1")))
        service.tell("POST /v1/credentials", Answer(ssh_credential(), 201))
        service.tell("GET /v1/whoami", Answer({"subject": "alice"}))
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            env={
                "PATH": os.environ["PATH"],
                "BROKER_URL": service.url,
                "BROKER_CA_FILE": authority.ca_file,
                "BROKER_TOKEN_FILE": "token",
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert service.seen
