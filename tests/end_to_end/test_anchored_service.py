"""A whole service with every kind of anchor at once: each has its last word, and a rolled-back one does not start."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import aioboto3
import pytest
from moto.server import ThreadedMotoServer

from broker import state, wiring
from broker.audit.anchors.notes import notes_in
from broker.audit.keyfiles import load_signer
from broker.audit.stores.sqlite_reader import SqliteReader
from broker.cli.main import main
from broker.errors import AuditUnavailable
from broker.settings import Settings, load
from tests.doubles.witness import Witness, serving
from tests.wiring.test_service import SETTINGS, roll_back

ORIGIN = "test.example/audit"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
async def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    async with aioboto3.Session().client("s3", "eu-west-1", endpoint_url=endpoint) as client:
        await client.create_bucket(
            Bucket="anchors",
            ObjectLockEnabledForBucket=True,
            CreateBucketConfiguration={"LocationConstraint": "eu-west-1"},
        )
    return f'bucket = "anchors"\nregion = "eu-west-1"\nendpoint_url = "{endpoint}"'


@dataclass(frozen=True)
class Estate:
    """A service's folder, and all that stands around it."""

    folder: Path
    witness: Witness
    syslog: socket.socket

    @property
    def settings(self) -> Settings:
        return load(self.folder / "broker.toml", {})

    @property
    def vault(self) -> Path:
        return self.folder / "vault" / "checkpoints"

    @property
    def cosigned(self) -> Path:
        return self.folder / "vault" / "cosigned"

    @property
    def database(self) -> Path:
        return self.folder / "state" / "audit.db"

    def newest(self) -> str:
        with closing(SqliteReader(self.database)) as reader:
            stored = reader.newest_checkpoint()
        assert stored
        return stored.note

    async def run(self) -> None:
        """Start the service and stop it at once."""
        async with wiring.service(self.settings):
            pass

    def last_line(self) -> str:
        """Answer the last line that the syslog was given."""
        line = b""
        while True:
            try:
                line = self.syslog.recv(65_536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return line.decode()


def blocks(bucket: str, witness: Witness) -> str:
    kinds = {
        "vault": 'kind = "file"\npath = "vault/checkpoints"',
        "bucket": f'kind = "s3"\n{bucket}',
        "siem": 'kind = "syslog"\naddress = "log.socket"',
        "witness": f'kind = "witness"\nurl = "{witness.url}"\nkey = "{witness.verifier}"\n'
        'path = "vault/cosigned"\nallow_private = true',
    }
    return "".join(f'[[audit.anchors]]\nname = "{name}"\nrequired = true\n{rest}\n' for name, rest in kinds.items())


@asynccontextmanager
async def standing(folder: Path, bucket: str) -> AsyncIterator[Estate]:
    (folder / "broker.toml").write_text(SETTINGS)
    (folder / "jwks.json").write_text('{"keys": []}')
    for name in ("policies", "vault"):
        (folder / name).mkdir()
    list(state.create(load(folder / "broker.toml", {})))
    witness = Witness(load_signer(folder / "state" / "audit.key", ORIGIN).verifier)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(folder / "log.socket"))
        async with serving(witness):
            text = SETTINGS + blocks(bucket, witness).replace('"log.socket"', f'"{folder / "log.socket"}"')
            (folder / "broker.toml").write_text(text)
            yield Estate(folder, witness, syslog)


@pytest.fixture
async def estate(tmp_path: Path, bucket: str) -> AsyncIterator[Estate]:
    async with standing(tmp_path, bucket) as opened:
        yield opened


def verify(estate: Estate, *words: str) -> int:
    return main(["audit", "verify", "--config", str(estate.folder / "broker.toml"), *words])


async def test_every_anchor_has_the_last_word_and_a_rollback_of_all_that_is_here_is_refused(
    estate: Estate, capsys: pytest.CaptureFixture[str]
) -> None:
    await estate.run()
    kept = {file: file.read_bytes() for file in (estate.database, estate.vault, estate.cosigned)}
    await estate.run()
    newest = estate.newest()
    assert newest.split("\n")[1] == "6"
    assert list(notes_in(estate.vault.read_text()))[-1] == newest
    assert list(notes_in(estate.cosigned.read_text()))[-1].startswith(newest)
    assert list(notes_in(estate.last_line())) == [newest]

    here = ["--anchor", str(estate.vault), "--anchor", str(estate.cosigned), "--witness", str(estate.witness.verifier)]
    assert verify(estate, "--require-sealed", *here) == 0
    assert "cosigned by witness.example/w1" in capsys.readouterr().out

    roll_back(estate.folder, kept[estate.database])
    estate.vault.write_bytes(kept[estate.vault])
    estate.cosigned.write_bytes(kept[estate.cosigned])
    assert verify(estate, *here) == 0  # all that is here was rolled back together
    with pytest.raises(AuditUnavailable) as told:
        await estate.run()
    assert "anchor bucket: rolled back: 6 events were anchored, 3 are here" in told.value.cause
    assert "anchor witness: rolled back: 6 events were anchored, 3 are here" in told.value.cause
    assert "vault" not in told.value.cause
    assert estate.newest().split("\n")[1] == "3"
    assert estate.vault.read_bytes() == kept[estate.vault]
