"""The vector store in the ledger's own Postgres: nodes and hashes are written in one transaction."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, func, insert, select, text
from sqlalchemy.exc import NotSupportedError, ProgrammingError

from orchestrator.contracts.errors import CollectionMismatch, ConfigurationError, DocumentError, ServiceUnreachable
from orchestrator.contracts.hashing import digest
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.spec import COLLECTION_PATTERN
from orchestrator.ledger.statements import array_literal
from orchestrator.ledger.tables import collections
from workers.vector_stores.contract import Collection, Match
from workers.vector_stores.pgvector_rows import COLUMNS, copy_rows
from workers.vector_stores.vectors import check_opened, check_vector, last_of_each_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from psycopg import Connection as Driver
    from sqlalchemy import Connection, Engine, Row

__all__ = ["PgVectorStore"]

_STORE = "pgvector"
_STAGED = '"nodes~staged"'  # no collection's table has this name, for none has a ~ in it
_MAX_TABLE_NAME = 50  # of Postgres' 63 bytes; the rest is for the names of indexes
_MAX_DIMENSION = 16_000  # of pgvector's type
_MAX_INDEXED_DIMENSION = 2000  # of pgvector's HNSW over float32
_MAX_CANDIDATES = 1000  # of hnsw.ef_search
_MIN_CANDIDATES = 100  # recall for small k
_BUILD_MEMORY = "512MB"  # HNSW is built many times faster while its graph fits
_STREAM_ROWS = 5000
_MAKING_LOCK = 0x646F636D696C6C01  # advisory: one transaction at a time makes or drops collections

# Texts are not compressed (EXTERNAL): that takes half of the time of a COPY, to save a third of the text. And a row
# stays in its page while it fits: to lay texts down apart, as Postgres does from 2 kB on, takes a third of the rest.
_IN_ROW = "toast_tuple_target = 8160"  # bytes; the most that Postgres allows
_MAKE = """
CREATE TABLE {table} (
    id uuid CONSTRAINT {primary_key} PRIMARY KEY,
    document_id text COLLATE "C" NOT NULL,
    position integer NOT NULL,
    text text NOT NULL,
    metadata jsonb NOT NULL,
    text_start integer,
    text_end integer,
    token_count integer NOT NULL,
    previous_id uuid,
    next_id uuid,
    embedding vector({dimension}) NOT NULL
) WITH ({in_row});
ALTER TABLE {table} ALTER COLUMN text SET STORAGE EXTERNAL;
CREATE INDEX {document_index} ON {table} (document_id)
"""

_NAMED = select(collections).where(collections.c.name == bindparam("of_name"))
_FIND = _NAMED.where(collections.c.store == _STORE)
_HOLD = _NAMED.with_for_update(read=True, key_share=True)

# Rows are locked in the order of their ids here, in _insert and in _REMOVE, so that writers of the same nodes
# wait for each other and never in a circle. A row that would stay as it is, is not written: its index entries stay too.
_UPSERT = f"""
INSERT INTO {{table}} AS held ({", ".join(COLUMNS)})
SELECT {", ".join(COLUMNS)} FROM {_STAGED} ORDER BY id
ON CONFLICT (id) DO UPDATE
SET ({", ".join(COLUMNS[1:])}) = ROW ({", ".join(f"excluded.{column}" for column in COLUMNS[1:])})
WHERE ({", ".join(f"held.{column}" for column in COLUMNS[1:])})
    IS DISTINCT FROM ({", ".join(f"excluded.{column}" for column in COLUMNS[1:])})
"""  # noqa: S608 - constants

# Of a table that is being filled Postgres knows nothing yet, and would rather read all of it than believe that a
# document has few nodes. Look-ups by primary key it always plans well, and OFFSET 0 makes it look up each document.
_COUNT_HELD = "SELECT count(*) FROM {table} WHERE id = ANY(CAST(:ids AS uuid[]))"

_FIND_STALE = """
SELECT found.id FROM unnest(CAST(:documents AS text[])) AS named(document)
CROSS JOIN LATERAL (SELECT id FROM {table} WHERE document_id = named.document OFFSET 0) AS found
WHERE found.id <> ALL(CAST(:kept AS uuid[]))
"""

_REMOVE = """
WITH stale AS (SELECT id FROM {table} WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE)
DELETE FROM {table} AS held USING stale WHERE held.id = stale.id
"""

_SEARCH = """
SELECT id, document_id, position, text, CAST(metadata AS text), embedding <=> CAST(:vector AS vector) AS distance
FROM {table} ORDER BY distance, id LIMIT :k
"""


class PgVectorStore:
    """A table a collection, `nodes_<collection>`, and its row in the ledger's table of collections.

    Needs pgvector 0.8 or later. Searches are exact until `optimize` has built an HNSW index; collections of more than
    2,000 dimensions stay without one. `close` leaves the engine to its owner.
    """

    in_ledger = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def open_collection(self, connection: Connection, collection: Collection) -> None:
        """Make the collection where it is missing; while this transaction lasts, nobody can drop it.

        Where it exists, this is one look-up by key. Nothing is remembered between calls: a rollback here, or a drop
        by another process, would make the memory wrong.

        Raises:
            CollectionMismatch: it exists with another model or dimension.
            ConfigurationError: the name is not one of a collection, it belongs to another vector store, its dimension
                is too large, or the server has no pgvector.
        """
        if not 1 <= collection.dimension <= _MAX_DIMENSION:
            raise ConfigurationError(
                f"collection {collection.name!r} cannot have {collection.dimension} dimensions: "
                f"pgvector takes 1 to {_MAX_DIMENSION}"
            )
        held = self._hold(connection, collection.name)
        if held is None:
            connection.execute(select(func.pg_advisory_xact_lock(_MAKING_LOCK)))
            held = self._hold(connection, collection.name)  # somebody may have made it while this one waited
        if held is None:
            self._make(connection, collection)
        elif held != collection:
            raise CollectionMismatch(collection.name, str(held), str(collection))

    def describe(self, name: str) -> Collection | None:
        """The collection of that name, or None.

        Raises:
            ConfigurationError: it belongs to another vector store.
        """
        with self._engine.connect() as connection:
            return _ours(connection.execute(_NAMED, {"of_name": name}).one_or_none())

    def upsert(self, connection: Connection, collection: str, nodes: Sequence[Node], *, new: bool = False) -> None:
        """Write nodes, replacing those of the same id; of several with one id the last.

        Nodes said to be `new` are not looked for first; those that are there all the same are replaced.

        Raises:
            CollectionMismatch: a vector has another dimension than the collection.
            ConfigurationError: the collection does not exist, or a node has no finite vector.
            DocumentError: a node holds what Postgres cannot: NUL or half a surrogate pair, NaN in its metadata, or a
                number of more than 32 bits.
            ServiceUnreachable: the connection broke.
        """
        from psycopg import Connection, DataError, OperationalError

        held = check_opened(collection, _find(connection, collection))
        nodes = last_of_each_id(nodes)
        driver = connection.connection.driver_connection
        if not isinstance(driver, Connection):
            raise ConfigurationError(f"vector store 'pgvector' writes through psycopg, not through {type(driver)}")
        try:
            table = _quote(collection)
            can_insert = new or not _holds_any(connection, table, nodes)
            if not (can_insert and _insert(connection, driver, table, held, nodes)):
                _upsert(connection, driver, table, held, nodes)
        except (DataError, struct.error, UnicodeEncodeError) as error:
            raise DocumentError("upsert", f"a node cannot be stored in Postgres: {str(error).strip()}") from error
        except OperationalError as error:
            connection.invalidate(error)  # SQLAlchemy did not see it break, and would fail again rolling back
            address = self._engine.url.render_as_string(hide_password=True)
            raise ServiceUnreachable("vector store", address, str(error).strip()) from error

    def remove_stale(self, connection: Connection, collection: str, keep: Mapping[str, Sequence[str]]) -> int:
        """Remove the nodes of the given documents that are not kept. Returns how many."""
        if not keep or _find(connection, collection) is None:
            return 0
        table = _quote(collection)
        kept = array_literal(node_id for node_ids in keep.values() for node_id in node_ids)
        find = text(_FIND_STALE.format(table=table))
        stale = connection.execute(find, {"documents": array_literal(keep), "kept": kept}).scalars().all()
        if not stale:
            return 0
        return connection.execute(text(_REMOVE.format(table=table)), {"ids": array_literal(map(str, stale))}).rowcount

    def search(self, collection: str, vector: NDArray[np.float32], k: int) -> list[Match]:
        """The k nodes nearest by cosine, best first; ties by node id. Exact without an index, and for k above 500.

        Raises:
            CollectionMismatch: the vector has another dimension than the collection.
        """
        with self._engine.connect() as connection:
            held = _find(connection, collection)
            if held is None or k < 1:
                return []
            check_vector(held, vector)
            _tune_search(connection, k)
            rows = connection.execute(
                text(_SEARCH.format(table=_quote(collection))), {"vector": str(vector.tolist()), "k": k}
            ).all()
        return [
            Match(row.id.hex, row.document_id, row.position, row.text, json.loads(row.metadata), 1.0 - row.distance)
            for row in rows
            if not math.isnan(row.distance)  # a vector of zeros points nowhere, and is near nothing
        ]

    def count(self, collection: str) -> int:
        """Nodes in the collection; 0 for one that does not exist."""
        with self._engine.connect() as connection:
            if _find(connection, collection) is None:
                return 0
            return int(connection.execute(text(f"SELECT count(*) FROM {_quote(collection)}")).scalar_one())  # noqa: S608 - quoted

    def node_ids(self, collection: str) -> Iterator[tuple[str, str]]:
        """All (document id, node id) as they are when the first is asked for, ordered by both, streamed."""
        with self._engine.connect() as connection:
            if _find(connection, collection) is None:
                return
            statement = text(f"SELECT document_id, id FROM {_quote(collection)} ORDER BY document_id, id")  # noqa: S608 - quoted
            with connection.execution_options(yield_per=_STREAM_ROWS).execute(statement) as rows:
                for document_id, node_id in rows:
                    yield document_id, node_id.hex

    def drop(self, collection: str) -> None:
        """Remove a collection with its nodes, once its writers have ended; nothing happens where there is none."""
        with self._engine.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_MAKING_LOCK)))
            dropped = connection.execute(
                delete(collections).where(collections.c.name == collection, collections.c.store == _STORE)
            )
            if dropped.rowcount:
                connection.execute(text(f"DROP TABLE {_quote(collection)}"))

    def optimize(self, collection: str, min_rows: int) -> bool:
        """Build the HNSW index if the collection has at least `min_rows` nodes and none yet. True if built.

        Writers go on meanwhile. Of several that ask at once one builds, and the others return at once. What a broken
        build left behind is built anew.
        """
        held = self.describe(collection)
        if held is None or held.dimension > _MAX_INDEXED_DIMENSION:
            return False
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.detach()  # closed at the end, and its settings with it; and its lock, should this fail
            lock = func.hashtextextended(_quote(collection, "~hnsw"), _MAKING_LOCK)
            if not connection.execute(select(func.pg_try_advisory_lock(lock))).scalar_one():
                return False
            is_due = _lacks_index(connection, collection, min_rows)
            if is_due:
                _build_index(connection, collection)
            connection.execute(select(func.pg_advisory_unlock(lock)))
        return is_due

    def close(self) -> None:
        """Nothing to let go of: the engine is the ledger's."""

    def _hold(self, connection: Connection, name: str) -> Collection | None:
        """The collection of that name, kept from being dropped while the transaction lasts."""
        return _ours(connection.execute(_HOLD, {"of_name": name}).one_or_none())

    def _make(self, connection: Connection, collection: Collection) -> None:
        name = collection.name
        try:
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
        except (NotSupportedError, ProgrammingError) as error:  # not installed, or not allowed to
            raise ConfigurationError(
                f"the ledger's Postgres cannot load pgvector: {str(error.orig).strip()}; install it on the server, and "
                "let an administrator run CREATE EXTENSION vector, or use DOCMILL_VECTOR_STORE=sqlite"
            ) from error
        made = _MAKE.format(
            table=_quote(name),
            primary_key=_quote(name, "~pk"),
            document_index=_quote(name, "~document"),
            dimension=collection.dimension,
            in_row=_IN_ROW,
        )
        for statement in made.split(";"):
            connection.execute(text(statement))
        connection.execute(
            insert(collections).values(name=name, store=_STORE, model=collection.model, dimension=collection.dimension)
        )


def _holds_any(connection: Connection, table: str, nodes: Sequence[Node]) -> bool:
    """Whether some of the nodes are there; others may still write them before this transaction does."""
    ids = array_literal(node.id for node in nodes)
    return bool(connection.execute(text(_COUNT_HELD.format(table=table)), {"ids": ids}).scalar_one())


def _insert(
    connection: Connection, driver: Driver[Any], table: str, collection: Collection, nodes: Sequence[Node]
) -> bool:
    """Copy nodes, in the order of their ids, straight into their table. False if some are there: nothing is done."""
    from psycopg.errors import UniqueViolation

    savepoint = connection.begin_nested()
    try:
        copy_rows(driver, table, collection, nodes)
    except UniqueViolation:
        savepoint.rollback()
        return False
    savepoint.commit()
    return True


def _upsert(
    connection: Connection, driver: Driver[Any], table: str, collection: Collection, nodes: Sequence[Node]
) -> None:
    """Bring the nodes over a table of their own into theirs, which may hold some of them."""
    connection.execute(
        text(f"CREATE TEMPORARY TABLE {_STAGED} (LIKE {table} INCLUDING STORAGE) WITH ({_IN_ROW}) ON COMMIT DROP")
    )
    copy_rows(driver, _STAGED, collection, nodes)
    connection.execute(text(_UPSERT.format(table=table)))
    connection.execute(text(f"DROP TABLE {_STAGED}"))  # the same transaction may upsert again


def _ours(row: Row[Any] | None) -> Collection | None:
    if row is None:
        return None
    if row.store != _STORE:
        raise ConfigurationError(
            f"collection {row.name!r} lives in the vector store {row.store!r}, but this pipeline writes to {_STORE!r}; "
            "use another collection, or that vector store"
        )
    return Collection(row.name, row.model, row.dimension)


def _find(connection: Connection, name: str) -> Collection | None:
    row = connection.execute(_FIND, {"of_name": name}).one_or_none()
    return Collection(row.name, row.model, row.dimension) if row else None


def _quote(collection: str, suffix: str = "") -> str:
    """The quoted identifier of the collection's table, or with a suffix of an index of it.

    Long names are cut and carry a hash. The `~`, which no collection has in its name, keeps all of them apart.
    """
    if not re.fullmatch(COLLECTION_PATTERN, collection):
        raise ConfigurationError(
            f"{collection!r} is not the name of a collection: allowed are 1 to 63 of a-z, 0-9, _ and -, "
            "a letter or digit first"
        )
    table = f"nodes_{collection}"
    if len(table) > _MAX_TABLE_NAME:
        mark = f"~{digest(collection)[:16]}"
        table = table[: _MAX_TABLE_NAME - len(mark)] + mark
    return f'"{table}{suffix}"'


def _tune_search(connection: Connection, k: int) -> None:
    """Settings of this transaction's search: as many candidates as k needs, and on until k are found."""
    candidates = max(_MIN_CANDIDATES, 2 * k)
    if candidates > _MAX_CANDIDATES:
        connection.execute(text("SET LOCAL enable_indexscan = off"))
        return
    connection.execute(
        text(
            "SELECT set_config('hnsw.ef_search', :candidates, true), "
            "set_config('hnsw.iterative_scan', 'strict_order', true)"
        ),
        {"candidates": str(candidates)},
    )


def _lacks_index(connection: Connection, collection: str, min_rows: int) -> bool:
    """The collection has no complete HNSW index, and is large enough for one."""
    valid = connection.execute(
        text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"),
        {"name": _quote(collection, "~hnsw")},
    ).scalar_one_or_none()
    if valid:
        return False
    counted = text(f"SELECT count(*) FROM (SELECT 1 FROM {_quote(collection)} LIMIT :rows) AS first")  # noqa: S608 - quoted
    return bool(connection.execute(counted, {"rows": min_rows}).scalar_one() >= min_rows)


def _build_index(connection: Connection, collection: str) -> None:
    name, table = _quote(collection, "~hnsw"), _quote(collection)
    for statement in (
        f"SET maintenance_work_mem = '{_BUILD_MEMORY}'",
        "SET statement_timeout = 0",
        f"DROP INDEX CONCURRENTLY IF EXISTS {name}",
        f"CREATE INDEX CONCURRENTLY {name} ON {table} USING hnsw (embedding vector_cosine_ops)",
    ):
        connection.execute(text(statement))
