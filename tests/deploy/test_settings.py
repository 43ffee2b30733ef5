import re
from pathlib import Path

from broker.settings import load

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "deploy/broker.toml"


def test_the_shipped_settings_are_valid() -> None:
    settings = load(SETTINGS, {})
    assert settings.server.tls_certificate is not None
    assert settings.server.tls_private_key is not None
    assert [issuer.principal for issuer in settings.issuers] == ["user", "workload"]
    assert all(account.role_arn and account.external_id for account in settings.accounts)
    assert not any(account.endpoint_url for account in settings.accounts)


def test_the_shipped_settings_keep_all_state_in_the_one_folder_that_the_unit_may_write() -> None:
    settings = load(SETTINGS, {})
    state = Path("/var/lib/broker")
    assert settings.keys.directory == state / "keys"
    assert settings.keys.master_key == f"file:{state}/master.key"
    assert settings.audit.database == f"sqlite:///{state}/audit.db"
    assert settings.audit.signing_key == f"file:{state}/audit.key"


def test_the_receiver_of_notices_that_the_shipped_settings_show_is_valid(tmp_path: Path) -> None:
    head, mark, example = SETTINGS.read_text().partition("# [[notify.webhooks]]")
    uncommented = re.sub(r"^# ", "", mark + example, flags=re.MULTILINE)
    (tmp_path / "broker.toml").write_text(head + uncommented)
    (webhook,) = load(tmp_path / "broker.toml", {}).notify.webhooks
    assert (webhook.name, webhook.allow_private) == ("pager", False)


def test_the_shipped_settings_accept_no_shared_secret_algorithm_and_no_old_token() -> None:
    for issuer in load(SETTINGS, {}).issuers:
        assert not any(algorithm.startswith("HS") for algorithm in issuer.algorithms)
        assert issuer.max_token_age.total_seconds() <= 12 * 3600
