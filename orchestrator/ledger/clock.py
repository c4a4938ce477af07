"""The ledger's clock is the database's: heartbeats and leases are never compared across machines' clocks."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, BindParameter, ColumnElement, DateTime, Dialect, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

__all__ = ["UTCDateTime", "milliseconds", "now"]


class UTCDateTime(TypeDecorator[datetime]):
    """A moment in UTC, aware in Python on both databases; SQLite keeps it as text without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _Now(FunctionElement[datetime]):
    type = UTCDateTime()
    inherit_cache = True
    name = "docmill_now"


def now(offset_seconds: float | BindParameter[float] = 0.0) -> _Now:
    """The database's time at this statement, shifted by `offset_seconds`."""
    return _Now(offset_seconds if isinstance(offset_seconds, BindParameter) else literal(float(offset_seconds)))


@compiles(_Now, "postgresql")
def _postgresql(element: _Now, compiler: SQLCompiler, **kwargs: Any) -> str:
    (offset,) = element.clauses
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(offset, **kwargs)}))"


@compiles(_Now, "sqlite")
def _sqlite(element: _Now, compiler: SQLCompiler, **kwargs: Any) -> str:
    (offset,) = element.clauses
    # %f has three digits; SQLAlchemy's text form of a moment has six.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {compiler.process(offset, **kwargs)} || ' seconds')"


class _Milliseconds(FunctionElement[int]):
    type = BigInteger()
    inherit_cache = True
    name = "docmill_milliseconds"


def milliseconds(moment: ColumnElement[datetime | None] | ColumnElement[datetime]) -> _Milliseconds:
    """A moment as whole milliseconds since 1970, to calculate with in SQL."""
    return _Milliseconds(moment)


@compiles(_Milliseconds, "postgresql")
def _postgresql_milliseconds(element: _Milliseconds, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"CAST(EXTRACT(EPOCH FROM {compiler.process(element.clauses, **kwargs)}) * 1000 AS BIGINT)"


@compiles(_Milliseconds, "sqlite")
def _sqlite_milliseconds(element: _Milliseconds, compiler: SQLCompiler, **kwargs: Any) -> str:
    days = f"julianday({compiler.process(element.clauses, **kwargs)}) - 2440587.5"  # of 1970
    return f"CAST(round(({days}) * 86400000) AS INTEGER)"
