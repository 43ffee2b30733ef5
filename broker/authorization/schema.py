"""The Cedar schema that is shipped with the broker."""

from functools import cache
from importlib.resources import files

from cedarpy import Schema

CONNECT = ("ssh", "rdp")
"""The actions in `Action::"connect"`."""

ACTIONS = (*CONNECT, "list", "approve", "readAudit", "lock")
"""Every action that can be asked for."""


@cache
def schema() -> Schema:
    """Answer the parsed schema; it is parsed once per process."""
    return Schema.from_str(files("broker.authorization").joinpath("broker.cedarschema").read_text("utf-8"))
