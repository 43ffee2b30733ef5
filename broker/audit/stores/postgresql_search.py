"""Searches as SQL of PostgreSQL: walks along an index from a position on, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.audit.stores import Filters, Found, Position, StoredRecord

_FIELDS = "time, idx, account, leaf_hash, leaf"
_LONG = {"actor", "instance", "account", "request_id"}
"""Columns whose index holds the beginning of a text."""


class _Values(list[object]):
    """The values of a query, each told its name in the text when it is put in."""

    def put(self, value: object) -> str:
        self.append(value)
        return f"${len(self)}"


def query(filters: Filters, limit: int, after: Position | None) -> tuple[str, Sequence[object]]:
    """Write one indexed walk, or one for each account that the reader may see, merged."""
    values = _Values()
    terms = _terms(filters, after, values)
    most = values.put(limit)
    if filters.accounts is None:
        return _walk(terms, most), values
    if not filters.accounts:
        return _walk(["FALSE"], "0"), ()
    walks = [
        f"(SELECT * FROM ({_walk([*terms, _equal('account', account, values)], most)}) AS walk{number})"  # noqa: S608 -- values are bound
        for number, account in enumerate(sorted(filters.accounts))
    ]
    return f"{' UNION ALL '.join(walks)} ORDER BY time DESC, idx DESC LIMIT {most}", values


def found(row: Any) -> Found:  # noqa: ANN401 -- asyncpg's rows have no types
    """Read a row of a search."""
    time, index, account, leaf_hash, leaf = row
    return Found(time, account, StoredRecord(index, leaf_hash, leaf))


def _walk(terms: Sequence[str], most: str) -> str:
    where = f"WHERE {' AND '.join(terms)}" if terms else ""
    return f"SELECT {_FIELDS} FROM events {where} ORDER BY time DESC, idx DESC LIMIT {most}"  # noqa: S608 -- values are bound


def _equal(column: str, value: str, values: _Values) -> str:
    place = values.put(value)
    whole = f"{column} = {place}"
    return f"left({column}, 200) = left({place}, 200) AND {whole}" if column in _LONG else whole


def _terms(filters: Filters, after: Position | None, values: _Values) -> list[str]:
    terms = [
        _equal(name, value, values)
        for name in ("actor", "instance", "event", "outcome", "request_id")
        if (value := getattr(filters, name)) is not None
    ]
    if filters.protocol is not None:
        terms.append(f"position({values.put(filters.member)}::bytea in leaf) > 0")
    if filters.since is not None:
        terms.append(f"time >= {values.put(filters.since)}")
    if filters.until is not None:
        terms.append(f"time < {values.put(filters.until)}")
    if filters.text:
        asked = " & ".join(filters.text)  # letters and digits alone: nothing of the syntax
        terms.append(f"words @@ to_tsquery('simple', {values.put(asked)})")
    if after is not None:
        terms.append(f"(time, idx) < ({values.put(after.time)}, {values.put(after.idx)})")
    return terms
