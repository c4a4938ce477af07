"""Statements that Postgres and SQLite spell in two ways, and within what both can take."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Integer,
    String,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import NullType, TypeEngine

__all__ = ["advisory_lock", "array_literal", "insert_into", "insert_rows", "one_of", "pages"]

_IDS_AT_ONCE = 5000  # Postgres takes 65,535 parameters, SQLite 32,766


def insert_into(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """INSERT with ON CONFLICT, in the dialect of that name; both dialects share its methods."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def insert_rows(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> tuple[postgresql.Insert | sqlite.Insert, Sequence[Mapping[str, Any]] | None]:
    """The same for many rows, one at least, in their order; and the parameters to run it with.

    Postgres takes an array a column, and once what is the same in all rows: one short statement however many rows,
    where thousands of parameters would cost more than the rows.
    """
    insert = insert_into(connection.dialect.name, table)
    if isinstance(insert, sqlite.Insert):
        return insert, rows
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    arrays = {name: values for name, values in columns.items() if any(value != values[0] for value in values)}
    if not arrays:  # a single row
        arrays = dict(columns)
    found = func.unnest(*(_array(table.c[name], values) for name, values in arrays.items()))
    rendered = found.table_valued(*arrays).render_derived()
    selected = [
        rendered.c[name] if name in arrays else bindparam(name, values[0], table.c[name].type, unique=True)
        for name, values in columns.items()
    ]
    return insert.from_select(list(columns), select(*selected)), None


def one_of(connection: Connection, column: Column[str], values: Collection[str]) -> ColumnElement[bool]:
    """The column holds one of these texts: a single parameter on Postgres, however many they are."""
    if connection.dialect.name != "postgresql":
        return column.in_(values)
    return column == any_(_array(column, values))


def _array(column: Column[Any], values: Collection[Any]) -> ColumnElement[Any]:
    """Values as an array, written out where that is simple."""
    if not isinstance(column.type, String | Integer):
        return bindparam(column.name, list(values), postgresql.ARRAY(column.type), unique=True)
    of: TypeEngine[Any] = Text() if isinstance(column.type, String) else BigInteger()
    # Of no type of its own, the parameter is an array to Postgres, read once. A cast text would be read at every row.
    return cast(bindparam("array", array_literal(values), NullType(), unique=True), postgresql.ARRAY(of))


def array_literal(values: Iterable[str | int | None]) -> str:
    """An array as Postgres reads it: psycopg would spend 4 us on each element of a list.

    Its form is that of https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO.
    """
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: str | int | None) -> str:
    if value is None:
        return "NULL"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def pages(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids, as many at a time as fit into one statement."""
    rest = iter(ids)
    return iter(lambda: list(islice(rest, _IDS_AT_ONCE)), [])


def advisory_lock(connection: Connection, name: str) -> None:
    """Hold a named lock until the transaction ends. SQLite has one writer at a time, and needs none."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext(%s))", (name,))
