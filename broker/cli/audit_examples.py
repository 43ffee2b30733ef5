"""What the help of each verb of `broker audit` shows: examples, exit codes, and what to look at next."""

from __future__ import annotations

EXAMPLES = {
    "verify": """\
broker audit verify  # the log of ./broker.toml, by its own key
broker audit verify --checkpoint kept.note --require-sealed  # against a checkpoint kept elsewhere
broker audit verify --export events.jsonl --key @audit.pub  # an export, without any settings
broker audit verify --receipt receipt.json --key @audit.pub  # one event, without the log
""",
    "checkpoint": """\
broker audit checkpoint > kept.note  # then keep it where nobody can change it
""",
    "key": """\
broker audit key > audit.pub  # for broker audit verify --key @audit.pub
""",
    "export": """\
broker audit export --output events.jsonl  # with events.jsonl.checkpoint beside it
broker audit export --format ocsf --since 24h > events.ocsf  # the last day, for a SIEM
broker audit export --format csv --account main --output main.csv  # one account, for a spreadsheet
""",
    "show": """\
broker audit show 41  # all that is known of event 41
""",
    "search": """\
broker audit search --since 24h  # the last day, newest first
broker audit search --instance web-1 --event credential.issued  # who got into web-1
broker audit search --actor alice --outcome denied  # what alice was refused
broker audit search --text "disk full" --format json  # by words of reasons, for a program
""",
    "trace": """\
broker audit trace --sshd-log /var/log/auth.log --instance web-1  # who is behind each login
journalctl -u ssh -o json | broker audit trace --sshd-log -  # from the journal
""",
    "reconcile": """\
broker audit reconcile --cloudtrail trail/  # a folder as S3 delivers it
broker audit reconcile --cloudtrail events.json.gz --lag 1h  # one file, CloudTrail being late
""",
    "rebuild": """\
broker audit rebuild --check  # only compare, also while the service runs
broker audit rebuild  # while it does not
""",
    "migrate": """\
broker audit migrate  # once, after an update, while the service does not run
""",
    "rotate": """\
broker audit rotate  # while the service does not run
""",
    "archive": """\
broker audit archive --before 400d --output 2025.jsonl  # what is older than 400 days
broker audit archive --before 2026-01-01 --output 2025.jsonl  # what is older than a date
""",
    "prune": """\
broker audit prune --archive 2025.jsonl  # after the archive has been put away safely
""",
}

EXITS = {
    "verify": {0: "it is", 1: "it is not, or with --require-sealed its end is not signed yet", 2: "cannot tell"},
    "checkpoint": {1: "the log has no checkpoint"},
    "show": {1: "there is no such event"},
    "trace": {
        1: "a login is not `issued`, or a line may be a login and cannot be read",
        2: "no line is one of sshd's log",
    },
    "reconcile": {
        1: "a finding other than `not in CloudTrail`, or not everything could be read",
        2: "nothing could be",
    },
    "rebuild": {1: "with --check: they differ"},
}

SEE = {
    "verify": "broker audit checkpoint, broker audit key, broker receipt",
    "checkpoint": "broker audit verify",
    "key": "broker audit verify, broker audit rotate",
    "export": "broker audit verify, broker audit search",
    "show": "broker audit search",
    "search": "broker audit show, broker audit export",
    "trace": "broker audit search, broker audit reconcile",
    "reconcile": "broker audit trace",
    "rebuild": "broker leases, broker hosts",
    "migrate": "broker audit verify",
    "rotate": "broker audit key",
    "archive": "broker audit prune, broker audit verify",
    "prune": "broker audit archive, broker audit verify",
}
