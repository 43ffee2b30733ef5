"""`broker notify test` and what `broker check` says of receivers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from broker.cli.main import main
from tests.doubles.outbound import SECRET


@dataclass
class Site:
    """A receiver in a thread of its own, since a command runs to its end in ours."""

    url: str = ""
    status: int = 204
    received: list[Any] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            site.received.append(Webhook(SECRET).verify(body, dict(self.headers.items())))
            self.send_response(site.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_port}/"
        yield site
        server.shutdown()
        thread.join()


@pytest.fixture
def config(tmp_path: Path, site: Site) -> Path:
    """Write settings with two receivers at the same address, of which one may not be in a private network."""
    secret = tmp_path / "secrets" / "siem"
    secret.parent.mkdir()
    secret.write_text(SECRET)
    secret.chmod(0o600)
    members = f'url = "{site.url}"\nsecret = "file:secrets/siem"\nevents = ["credential.*"]\n'
    (tmp_path / "jwks.json").write_text('{"keys": []}')
    path = tmp_path / "broker.toml"
    path.write_text(
        'audit = {origin = "broker.example/audit"}\n'
        'issuers = [{name = "corp", issuer = "https://id.example.com", audience = "b", jwks_file = "jwks.json"}]\n'
        'accounts = [{name = "main", regions = ["eu-west-1"], endpoint_url = "http://127.0.0.1:9"}]\n'
        f'[[notify.webhooks]]\nname = "inside"\nallow_private = true\n{members}'
        f'[[notify.webhooks]]\nname = "outside"\n{members}'
    )
    return path


def test_a_test_notice_arrives_with_a_signature_that_holds(
    config: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["notify", "test", "--config", str(config), "--receiver", "inside"]) == 0
    assert capsys.readouterr().out == "inside  taken  status 204\n"
    (notice,) = site.received
    assert (notice["type"], notice["data"]["log"]) == ("notify.test", "broker.example/audit")
    assert json.dumps(notice).isascii()


def test_every_receiver_is_tried_and_what_fails_is_named(
    config: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.status = 500
    assert main(["notify", "test", "--config", str(config)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "inside  NOT TAKEN  status 500",
        "outside  NOT TAKEN  a private address, which is not allowed",
    ]
    assert len(site.received) == 1


def test_a_receiver_that_is_not_there_is_refused_with_those_that_are(
    config: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["notify", "test", "--config", str(config), "--receiver", "nobody"]) == 2
    assert "there are inside, outside" in capsys.readouterr().err
    assert site.received == []


def test_a_secret_that_others_can_read_stops_it_by_name(
    config: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    (config.parent / "secrets" / "siem").chmod(0o644)
    assert main(["notify", "test", "--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert "notify.webhooks.0.secret" in said
    assert "notify.webhooks.1.secret" in said
    assert "chmod 600" in said
    assert SECRET not in said
    assert site.received == []


def test_the_check_judges_addresses_and_sends_nothing(
    config: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", "--config", str(config)])
    said = [line for line in capsys.readouterr().out.splitlines() if "webhooks" in line]
    assert said == ["PROBLEM  webhooks    outside: 127.0.0.1 has a private address, which is not allowed"]
    config.write_text(config.read_text().replace('name = "outside"', 'name = "outside"\nallow_private = true'))
    main(["check", "--config", str(config)])
    said = [line for line in capsys.readouterr().out.splitlines() if "webhooks" in line]
    assert said == ["ok       webhooks    inside, outside"]
    assert site.received == []


def test_the_check_says_whose_secret_is_not_there(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().replace("file:secrets/siem", "env:NOT_SET_ANYWHERE", 1))
    main(["check", "--config", str(config)])
    said = [line for line in capsys.readouterr().out.splitlines() if "webhooks" in line]
    assert said == ["PROBLEM  webhooks    notify.webhooks.0.secret: NOT_SET_ANYWHERE holds no secret"]
