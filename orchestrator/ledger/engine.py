"""The engine behind the ledger: Postgres or SQLite, set up the same way everywhere."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from orchestrator.contracts.errors import ConfigurationError, ServiceUnreachable
from orchestrator.ledger.binary_results import offer_binary_results
from orchestrator.ledger.sqlite_wal import switch_to_wal

__all__ = ["begin", "create_ledger_engine", "reading"]

_BUSY_SECONDS = 30.0  # SQLite: for another writer to finish
_READS_ONLY = "docmill_reads_only"


def create_ledger_engine(url: str, *, connect_timeout: float = 5.0) -> Engine:
    """An engine for the ledger's address; connects at the first use.

    Raises:
        ConfigurationError: the address is not one of Postgres or SQLite.
    """
    try:
        parsed = make_url(url)
        dialect = parsed.get_backend_name()
        if dialect == "postgresql":
            engine = create_engine(
                parsed,
                pool_pre_ping=True,  # a restarted Postgres costs a reconnect, not a batch
                pool_size=4,
                max_overflow=4,
                connect_args={
                    "connect_timeout": max(2, round(connect_timeout)),
                    "application_name": "docmill",
                    # Each statement is planned for the tables as they are. The plan of a prepared one stays as it was
                    # when a table was nearly empty, while a first ingestion fills it: quadratic, until it is analyzed.
                    "prepare_threshold": None,
                    # A network that went away without a word is noticed within half a minute, sending or waiting.
                    "keepalives_idle": 10,
                    "keepalives_interval": 5,
                    "keepalives_count": 4,
                    "tcp_user_timeout": 30_000,  # milliseconds
                },
            )
            offer_binary_results(engine)
            return engine
        if dialect == "sqlite":
            engine = create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_immediate)
            return engine
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigurationError(f"DOCMILL_DATABASE_URL is not an address of a database: {error}") from error
    raise ConfigurationError(
        f"DOCMILL_DATABASE_URL names {dialect!r}; allowed are postgresql+psycopg://… and sqlite:///…"
    )


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    switch_to_wal(connection, _BUSY_SECONDS)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    # A read that later wants to write would fail with "database is locked"; so the lock is taken first.
    reads_only = connection.get_execution_options().get(_READS_ONLY)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


@contextmanager
def begin(engine: Engine) -> Iterator[Connection]:
    """A transaction on the ledger.

    Raises:
        ServiceUnreachable: the database does not answer; names its address without the password.
    """
    try:
        connection = engine.connect()
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise ServiceUnreachable("database", engine.url.render_as_string(hide_password=True), reason) from error
    with connection, connection.begin():
        yield connection


def reading(engine: Engine) -> AbstractContextManager[Connection]:
    """A transaction that only reads: on SQLite it waits for no writer, and keeps none waiting.

    Raises:
        ServiceUnreachable: as `begin`.
    """
    return begin(engine.execution_options(**{_READS_ONLY: True}))
