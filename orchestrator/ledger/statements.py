"""Statements that Postgres and SQLite spell in two ways, and within what both can take."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["advisory_lock", "insert_into", "insert_rows", "pages"]

_IDS_AT_ONCE = 5000  # Postgres takes 65,535 parameters, SQLite 32,766


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """INSERT with ON CONFLICT, in the connection's dialect; both dialects share its methods."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def insert_rows(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> tuple[postgresql.Insert | sqlite.Insert, Sequence[Mapping[str, Any]] | None]:
    """The same for many rows, one at least, in their order; and the parameters to run it with.

    Postgres takes an array a column: one short statement however many rows, where thousands of parameters would cost
    more than the rows.
    """
    insert = insert_into(connection, table)
    if isinstance(insert, sqlite.Insert):
        return insert, rows
    names = list(rows[0])
    arrays = [
        bindparam(name, [row[name] for row in rows], postgresql.ARRAY(table.c[name].type), unique=True)
        for name in names
    ]
    found = func.unnest(*arrays).table_valued(*names).render_derived()
    return insert.from_select(names, select(*(found.c[name] for name in names))), None


def pages(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids, as many at a time as fit into one statement."""
    rest = iter(ids)
    return iter(lambda: list(islice(rest, _IDS_AT_ONCE)), [])


def advisory_lock(connection: Connection, name: str) -> None:
    """Hold a named lock until the transaction ends. SQLite has one writer at a time, and needs none."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext(%s))", (name,))
