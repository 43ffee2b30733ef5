"""The ledger: an append-only log that proves itself, and nothing that could hold a secret.

`log` is its only writer, `review` its reader, `verification` the offline check that needs neither of them.
"""
