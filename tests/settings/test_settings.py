"""Settings: everything wrong is said at once, with its path."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from broker.settings import SettingsError, load, parse_duration

GOOD = """
[[issuers]]
name = "corp"
issuer = "https://id.example.com"
audience = "lightsail-broker"
jwks_file = "jwks.json"
[[accounts]]
name = "main"
regions = ["eu-west-1"]
[audit]
origin = "broker.example.com/audit"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "broker.toml"
    path.write_text(text)
    return path


def problems(folder: Path, text: str, environment: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as error:
        load(write(folder, text), environment or {})
    return error.value.problems


def test_the_smallest_file_that_works_gets_the_documented_defaults(tmp_path: Path) -> None:
    settings = load(write(tmp_path, GOOD), {})
    assert settings.server.listen == "127.0.0.1:8443"
    assert settings.issuers[0].algorithms == ("RS256", "PS256", "ES256", "EdDSA")
    assert settings.issuers[0].max_token_age == timedelta(hours=12)
    assert settings.limits.per_caller_per_minute == 30


def test_paths_are_relative_to_the_file_defaults_included(tmp_path: Path) -> None:
    settings = load(write(tmp_path, GOOD), {})
    assert settings.issuers[0].jwks_file == tmp_path / "jwks.json"
    assert settings.policies.directory == tmp_path / "policies"
    assert settings.keys.master_key == f"file:{tmp_path}/state/master.key"
    assert settings.audit.database == f"sqlite:///{tmp_path}/state/audit.db"


def test_all_problems_are_reported_at_once_with_their_paths(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
        [server]
        listen = "0.0.0.0:8443"
        colour = "blue"
        [[issuers]]
        name = "Corp!"
        issuer = "http://id.example.com"
        [[accounts]]
        name = "main"
        regions = ["moon"]
        """,
    )
    for path in (
        "server.colour: there is no such setting",
        "issuers.0.name",
        "issuers.0.issuer",
        "issuers.0.audience",
        "accounts.0.regions.0",
        "audit.origin",
    ):
        assert any(problem.startswith(path) for problem in found), (path, found)


@pytest.mark.parametrize("section", ["issuers", "accounts"])
@pytest.mark.parametrize("name", ["corp/ops", "/", "corp\n", "cörp", "Corp", "-corp", ""])
def test_a_name_that_policies_and_keys_are_built_from_is_plain(tmp_path: Path, section: str, name: str) -> None:
    """`issuer/subject` and `account/region/name` must be read back as they were written."""
    setting = f"BROKER__{section.upper()}__0__NAME"
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, GOOD), {setting: name})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [f"{section}.0.name"]


def test_plain_http_is_only_for_loopback(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, GOOD + '[server]\nlisten = "0.0.0.0:8443"\n')
    assert "loopback" in problem


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("BROKER__SERVER__LISTEN", "127.0.0.1:9", lambda s: s.server.listen == "127.0.0.1:9"),
        ("BROKER__LIMITS__CONCURRENT_REQUESTS", "7", lambda s: s.limits.concurrent_requests == 7),
        ("BROKER__ISSUERS__0__AUDIENCE", "other", lambda s: s.issuers[0].audience == "other"),
        ("BROKER__ISSUERS__0__TOKEN_TYPES", '["JWT"]', lambda s: s.issuers[0].token_types == ("JWT",)),
        ("BROKER__ISSUERS__0__REQUIRE_BINDING", "true", lambda s: s.issuers[0].require_binding is True),
        ("BROKER__ACCOUNTS__0__REGIONS", '["us-east-1"]', lambda s: s.accounts[0].regions == ("us-east-1",)),
    ],
)
def test_every_value_can_be_overridden_by_the_environment(tmp_path: Path, name: str, value: str, read: object) -> None:
    settings = load(write(tmp_path, GOOD), {name: value})
    assert callable(read)
    assert read(settings)


@pytest.mark.parametrize(
    "name", ["BROKER__SERVER__COLOUR", "BROKER__NOBODY__LISTEN", "BROKER__ISSUERS__AUDIENCE", "BROKER__SERVER"]
)
def test_an_unknown_variable_is_refused_by_name(tmp_path: Path, name: str) -> None:
    assert problems(tmp_path, GOOD, {name: "x"}) == (f"{name}: there is no such setting",)


def test_variables_and_file_are_complained_about_together(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD.replace("audience", "audiance"), {"BROKER__SERVER__COLOUR": "x"})
    assert len(found) == 3, found


@pytest.mark.parametrize("text", ["", "a = ", "[[issuers]]\n[[issuers]]\n", "\x00"])
def test_what_is_no_settings_file_is_a_clear_error(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        load(tmp_path / "nowhere.toml", {})


def test_one_name_for_two_issuers_is_refused(tmp_path: Path) -> None:
    block = GOOD[GOOD.index("[[issuers]]") : GOOD.index("[[accounts]]")]
    (problem,) = problems(tmp_path, block + GOOD)
    assert "issuers.name" in problem


def test_several_workers_need_postgresql(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, GOOD + "[server]\nworkers = 2\n")
    assert "PostgreSQL" in problem


@pytest.mark.parametrize(
    ("database", "why"),
    [
        ("mysql://h/d", "use sqlite:///PATH or postgresql://USER@HOST/NAME"),
        ("postgresql://me:s3cret@127.0.0.1/d", "keep the password out of the URL"),
        ("postgresql://me@127.0.0.1/d?password=s3cret", "keep the password out of the URL"),
        ("postgresql://me@db.example.com/d", "?sslmode=verify-full"),
        ("postgresql://me@127.0.0.1,db.example.com/d", "?sslmode=verify-full"),
        ("postgresql://me@127.0.0.1", "name the database"),
        ("postgresql://me@127.0.0.1/d?statement_cache_size=few", "whole number"),
    ],
)
def test_a_place_of_the_log_that_cannot_be_is_explained_and_its_password_not_repeated(
    tmp_path: Path, database: str, why: str
) -> None:
    (problem,) = problems(tmp_path, GOOD, {"BROKER__AUDIT__DATABASE": database})
    assert why in problem
    assert problem.startswith("audit.database: ")
    assert "s3cret" not in problem


@pytest.mark.parametrize(
    "database",
    [
        "postgresql://me@/d?host=/run/postgresql",
        "postgresql://me@[::1]/d",
        "postgresql://me@db.example.com/d?sslmode=require",
    ],
)
def test_a_log_can_be_in_postgresql(tmp_path: Path, database: str) -> None:
    environment = {"BROKER__AUDIT__DATABASE": database, "BROKER__SERVER__WORKERS": "4"}
    assert load(write(tmp_path, GOOD), environment).audit.database == database


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load(write(tmp_path, GOOD), {})
    with pytest.raises(ValueError, match="frozen"):
        settings.server = settings.server


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("2d", 172800), ("15m", 900)])
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "h", "-5s", "1.5h", "5 m", "5m1h", "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nlisen = 'x'", "server.lisen: there is no such setting; did you mean listen?"),
        ("[sever]\nlisten = 'x'", "sever: there is no such setting; did you mean server?"),
        ("[server]\nlisten = 'here'", "server.listen: 'here' is not ADDRESS:PORT, such as 127.0.0.1:8443"),
        ("[server]\nlisten = 1", "server.listen: write text"),
        ("[server]\nworkers = 'many'", "server.workers: write a whole number"),
        ("[server]\nworkers = 1.5", "server.workers: write a whole number"),
        ("[server]\nworkers = 65", "server.workers: must be at most 64"),
        ("[limits]\nconcurrent_requests = 0", "limits.concurrent_requests: must be at least 1"),
        (
            "[server]\ntrusted_proxies = ['10.0.0.1/8']",
            "server.trusted_proxies.0: '10.0.0.1/8' is not a network: write one like 10.0.0.0/8",
        ),
        ("[server]\ntrusted_proxies = 'x'", "server.trusted_proxies: write a list"),
        ("[keys]\ndirectory = 7", "keys.directory: write a path"),
        ("server = 7", "server: write a table"),
        ("[notify]\nwebhooks = ['x']", "notify.webhooks.0: write a table"),
    ],
)
def test_a_fault_is_told_in_the_words_of_whoever_writes_the_file(tmp_path: Path, text: str, said: str) -> None:
    assert problems(tmp_path, f"{text}\n{GOOD}" if text.startswith("server") else f"{GOOD}{text}\n") == (said,)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BROKER__SEVER__LISTEN", "x", "BROKER__SEVER__LISTEN: there is no such setting; did you mean server?"),
        ("BROKER__SERVER__LISEN", "x", "BROKER__SERVER__LISEN: there is no such setting; did you mean listen?"),
        ("BROKER__AUDIT__ORIGIN", "a b", "audit.origin: 'a b' is not a name for checkpoints"),
        (
            "BROKER__ACCOUNTS__0__REGIONS",
            '["eu-west-9"]',
            "accounts.0.regions.0: Lightsail is not offered in a region 'eu-west-9'; did you mean eu-west-",
        ),
        ("BROKER__ISSUERS__0__REQUIRE_BINDING", "maybe", "issuers.0.require_binding: write true or false"),
        ("BROKER__ISSUERS__0__PRINCIPAL", "robot", "issuers.0.principal: write 'user' or 'workload'"),
        ("BROKER__ISSUERS__0__MAX_TOKEN_AGE", "soon", "issuers.0.max_token_age: write a duration like"),
        ("BROKER__ISSUERS__0__AUDIENCE", "", "issuers.0.audience: must not be empty"),
        ("BROKER__ISSUERS__0__REQUIRE", '{"a": [1]}', "issuers.0.require.a: write text, a whole number, true or false"),
        ("BROKER__ISSUERS__0__REQUIRE", "x", "issuers.0.require: write a table"),
        ("BROKER__ACCOUNTS__0__ENDPOINT_URL", "x", "accounts.0.endpoint_url: use https"),
    ],
)
def test_a_variable_s_fault_is_told_alike(tmp_path: Path, name: str, value: str, said: str) -> None:
    (problem,) = problems(tmp_path, GOOD, {name: value})
    assert problem.startswith(said)


HOOKS = '[{{"name": "siem", "url": "{}", "secret": "{}", "events": ["*"]}}]'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER__CONSOLE__CLIENT_SECRET", "s3cret"),
        ("BROKER__AUDIT__DATABASE", "mysql://broker:s3cret@db"),
        ("BROKER__KEYS__MASTER_KEY", "s3cret"),
        ("BROKER__NOTIFY__WEBHOOKS", HOOKS.format("https://hooks.example.com/s3cret", "s3cret")),
        ("BROKER__NOTIFY__WEBHOOKS", HOOKS.format("http://hooks.example.com/s3cret", "env:X")),
    ],
)
def test_what_may_be_a_secret_is_not_repeated(tmp_path: Path, name: str, value: str) -> None:
    (problem,) = problems(tmp_path, GOOD, {name: value})
    assert "s3cret" not in problem


def test_what_is_missing_is_said_to_be(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD.replace('audience = "lightsail-broker"', "")) == ("issuers.0.audience: is missing",)


def test_the_file_of_the_faults_is_known(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, GOOD), {"BROKER__SERVER__LISTEN": "x"})
    assert caught.value.path == tmp_path / "broker.toml"


HOOK = """
[[notify.webhooks]]
name = "siem"
url = "https://siem.example.com/broker"
secret = "file:secrets/siem"
events = ["credential.issued", "break_glass.*", "log_fault"]
tags = { env = "prod" }
"""


def test_a_receiver_of_notices_is_read_with_its_secret_beside_the_file(tmp_path: Path) -> None:
    (webhook,) = load(write(tmp_path, GOOD + HOOK), {}).notify.webhooks
    assert (webhook.name, webhook.tags, webhook.allow_private) == ("siem", {"env": "prod"}, False)
    assert webhook.secret == f"file:{tmp_path}/secrets/siem"
    notify = load(write(tmp_path, GOOD + HOOK), {"BROKER__NOTIFY__DENIED_BURST_WITHIN": "1h"}).notify
    assert (notify.denied_burst, notify.denied_burst_within) == (5, timedelta(hours=1))


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ('"break_glass.*"', '"break_glas.*"', "notify.webhooks.0.events.1: no event is called 'break_glas.*'"),
        ('["credential.issued", "break_glass.*", "log_fault"]', "[]", "notify.webhooks.0.events: must not be empty"),
        ("https://siem", "http://siem", "notify.webhooks.0.url: use https (http only on a loopback address)"),
        ("https://siem", "https://user:secret@siem", "notify.webhooks.0.url: write it without a user"),
        ("file:secrets/siem", "whsec_abc", "notify.webhooks.0.secret: use file:PATH or env:NAME"),
        ('"siem"', '"Siem!"', "notify.webhooks.0.name"),
        ("tags", "tag", "notify.webhooks.0.tag: there is no such setting"),
        ("[[notify", "[notify]\ndenied_burst = 1\n[[notify", "notify.denied_burst: must be at least 2"),
        (HOOK, HOOK + HOOK, "notify.webhooks.name: 'siem' stands more than once"),
    ],
)
def test_a_receiver_that_cannot_be_is_refused_in_words(tmp_path: Path, wrong: str, right: str, said: str) -> None:
    (problem,) = problems(tmp_path, GOOD + HOOK.replace(wrong, right))
    assert problem.startswith(said)


ANCHORS = """
[[audit.anchors]]
name = "vault"
kind = "file"
path = "worm/checkpoints"
required = true
[[audit.anchors]]
name = "bucket"
kind = "s3"
bucket = "b"
region = "eu-west-1"
retention = "30d"
[[audit.anchors]]
name = "siem"
kind = "syslog"
address = "tcp://[::1]:601"
[[audit.anchors]]
name = "witness"
kind = "witness"
url = "https://witness.example.com"
key = "witness.example.com/w1+0a1b2c3d+BAAA"
path = "cosigned.notes"
"""


def test_anchors_of_every_kind_are_read(tmp_path: Path) -> None:
    file, bucket, syslog, witness = load(write(tmp_path, GOOD + ANCHORS), {}).audit.anchors
    assert (file.path, file.required) == (tmp_path / "worm" / "checkpoints", True)
    assert (bucket.retention, bucket.required) == (timedelta(days=30), False)
    assert syslog.address == "tcp://[::1]:601"
    assert witness.path == tmp_path / "cosigned.notes"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('kind = "file"', "path: an anchor of kind file needs it"),
        ('kind = "s3"\nbucket = ""\nregion = "eu-west-1"', "bucket: an anchor of kind s3 needs it"),
        ('kind = "syslog"\naddress = "/dev/log"\npath = "x"', "path: an anchor of kind syslog has none"),
        ('kind = "syslog"\naddress = "host:514"', "udp://HOST:514"),
        ('kind = "syslog"\naddress = "udp://host:65536"', "udp://HOST:514"),
        ('kind = "s3"\nbucket = "b"\nregion = "europe"', "'europe' is not a region"),
        ('kind = "s3"\nbucket = "b"\nregion = "eu-west-1"\nretention = "1h"', "retention: it is at least 1d"),
        ('kind = "witness"\nurl = "http://w.example"\nkey = "k"\npath = "x"', "use https"),
        ('kind = "tape"', "write 'file', 's3', 'syslog' or 'witness'"),
        ('kind = "file"\npath = "x"\ncolour = "blue"', "there is no such setting"),
    ],
)
def test_an_anchor_that_is_not_of_its_kind_is_refused(tmp_path: Path, lines: str, words: str) -> None:
    found = problems(tmp_path, GOOD + f'[[audit.anchors]]\nname = "a"\n{lines}\n')
    assert any(problem.startswith("audit.anchors.0") and words in problem for problem in found), found


def test_two_anchors_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = '[[audit.anchors]]\nname = "a"\nkind = "file"\npath = "x"\n' * 2
    assert "audit.anchors.name: 'a' stands more than once" in problems(tmp_path, GOOD + twice)[0]
