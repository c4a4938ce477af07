"""Statements that Postgres and SQLite spell in two ways, and within what both can take."""

from collections.abc import Iterable, Iterator
from itertools import islice

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["advisory_lock", "insert_into", "pages"]

_IDS_AT_ONCE = 5000  # Postgres takes 65,535 parameters, SQLite 32,766


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """INSERT with ON CONFLICT, in the connection's dialect; both dialects share its methods."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def pages(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids, as many at a time as fit into one statement."""
    rest = iter(ids)
    return iter(lambda: list(islice(rest, _IDS_AT_ONCE)), [])


def advisory_lock(connection: Connection, name: str) -> None:
    """Hold a named lock until the transaction ends. SQLite has one writer at a time, and needs none."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext(%s))", (name,))
