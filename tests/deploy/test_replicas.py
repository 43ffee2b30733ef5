import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.audit.checkpoints import Signer
from broker.audit.events import document
from broker.audit.ledger import Ledger
from broker.audit.log import create
from broker.audit.stores import opening
from broker.settings import load
from tests.doubles.audit import ManualClock, an_event
from tests.real.postgresql import PostgresqlServer, run

FOLDER = Path(__file__).parents[2] / "deploy/replicas"
SETTINGS = FOLDER.parent / "broker.toml"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return found


def test_every_broker_s_settings_are_valid_and_of_one_log(compose: dict[str, Any]) -> None:
    brokers = {name: each for name, each in compose["services"].items() if "broker" in each["image"]}
    assert set(brokers) == {"broker-1", "broker-2", "operator"}
    loaded = {name: load(SETTINGS, each["environment"]) for name, each in brokers.items()}
    assert {opening.name_of(each.audit.database).partition("@")[2] for each in loaded.values()} == {"postgres/audit"}
    assert loaded["broker-1"] == loaded["broker-2"]
    assert {opening.name_of(each.audit.database) for name, each in loaded.items() if name != "operator"} == {
        "postgresql://audit_service@postgres/audit"
    }


def test_they_share_the_state_that_must_be_alike_and_nothing_is_writable_beside(compose: dict[str, Any]) -> None:
    for name in ("broker-1", "broker-2", "operator"):
        broker = compose["services"][name]
        assert broker["read_only"]
        assert [volume for volume in broker["volumes"] if not volume.endswith(":ro")] == ["state:/var/lib/broker"]


def test_secrets_come_as_files_only(compose: dict[str, Any]) -> None:
    text = (FOLDER / "compose.yaml").read_text()
    assert not re.search(r"password: |password=|:[^/@\s]+@", text, re.IGNORECASE)
    named = {name for each in compose["services"].values() for name in each.get("secrets", [])}
    assert named == set(compose["secrets"])
    assert "sslmode=verify-full" in text


def test_the_balancer_knows_every_broker_and_asks_whether_it_is_ready(compose: dict[str, Any]) -> None:
    text = (FOLDER / "haproxy.cfg").read_text()
    servers = re.findall(r"^\s*server (\S+) (\S+):8443$", text, re.MULTILINE)
    assert (
        {name for name, _ in servers}
        == {name for _, name in servers}
        == set(compose["services"]["balancer"]["depends_on"])
    )
    assert "GET /readyz" in text
    assert load(SETTINGS, {}).server.port == 8443


@pytest.mark.real("postgresql")
def test_the_service_can_do_its_work_and_take_nothing_away(
    postgresql: str, postgresql_server: PostgresqlServer
) -> None:
    clock, signer = ManualClock(), Signer("test.example/audit", Ed25519PrivateKey.generate())
    create(opening.store(postgresql), signer, clock)
    exists = "SELECT count(*) FROM pg_roles WHERE rolname = 'audit_service'"
    if not run(postgresql, exists):
        run(postgresql, "CREATE ROLE audit_service LOGIN", "SELECT 1")
    run(postgresql, (FOLDER / "grants.sql").read_text(), "SELECT 1")
    service = postgresql_server.url(postgresql.rpartition("/")[2], "audit_service")
    ledger = Ledger(opening.store(service), signer, clock)
    ledger.open()
    keys = {"host_keys": ("ssh-ed25519 " + "ab" * 32,)}
    for kind in ("requested", "issued", "withheld", "failed"):
        ledger.write([document(an_event(f"credential.{kind}", details=keys, error="host_key_changed"))])
    ledger.write([document(an_event("host_keys.accepted", details=keys))])
    assert ledger.tend(seal=True)
    assert ledger.claim("anchor", 60) == 0
    ledger.advance("anchor", 5)
    ledger.close()
    for forbidden in ("DELETE FROM events", "UPDATE events SET leaf = ''", "DELETE FROM checkpoints", "TRUNCATE nodes"):
        with pytest.raises(Exception, match="permission denied"):
            run(service, forbidden)
