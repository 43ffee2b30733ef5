"""What the help of each verb of `broker policy` shows: examples, exit codes, and what to look at next."""

from __future__ import annotations

EXAMPLES = {
    "check": """\
broker policy check  # the policies of the settings, else ./policies
broker policy check policies  # those in a folder, without any settings
broker policy check policies --format json  # for an editor
""",
    "test": """\
broker policy test  # every case of the truth tables
broker policy test policies --require-coverage  # and every policy has its cases
""",
    "explain": """\
broker policy explain --as corp/alice --group ops --action ssh --on main/eu-west-1/web-1 --tag env=prod  # why (not)
broker policy explain --case policies/tests/operators.yaml:12  # a case of a truth table
""",
    "who-can": """\
broker policy who-can --on web-1 --action ssh  # who gets in, and with what
broker policy who-can --as corp/alice --group ops --inventory instances.json  # where alice gets in
broker policy who-can --group corp/ops  # where any operator gets in
""",
    "diff": """\
broker policy diff old new  # by the instances of their truth tables
broker policy diff old new --inventory instances.json  # by what broker ls --format json printed
""",
    "format": """\
broker policy format  # those of the settings, else ./policies
broker policy format --check policies  # for a build
broker policy format -  # stdin to stdout, for an editor
""",
}

_PROBLEMS = {1: "there are problems; each is named with its file and line", 2: "there is no such folder"}

EXITS = {
    "check": _PROBLEMS,
    "test": {1: "a case came out otherwise, there are problems, or something is not covered", 2: _PROBLEMS[2]},
    "explain": {0: "allowed", 1: "the policies have problems", 2: "that is no question", 3: "denied"},
    "who-can": {1: "the policies have problems", 2: "that is no question"},
    "diff": {0: "nothing changes", 1: "something does", 2: "one of the two cannot be read"},
    "format": {1: "a file would change (--check), or cannot be formatted", 2: "there is no such file or folder"},
}

SEE = {
    "check": "broker policy test, broker policy format, broker check",
    "test": "broker policy explain, broker policy check",
    "explain": "broker policy who-can, broker policy test",
    "who-can": "broker policy explain, broker policy diff",
    "diff": "broker policy who-can, broker policy test",
    "format": "broker policy check",
}
