"""What the ledger knows of documents: asked per slice, written by commits in order of enqueuing."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    collate,
    delete,
    exists,
    false,
    func,
    literal_column,
    select,
    text,
    update,
)

from orchestrator.ledger.clock import now
from orchestrator.ledger.statements import array_literal, insert_rows, one_of
from orchestrator.ledger.tables import documents, jobs, listings

__all__ = [
    "DocumentRow",
    "KnownDocument",
    "claim",
    "code_points",
    "delete_documents",
    "guard_version",
    "known",
    "known_bodies",
    "lock",
    "refresh_stamps",
    "vanished",
    "vanished_condition",
    "vanished_count",
    "version_of",
]


# Of what INSERT … ON CONFLICT DO UPDATE returns: the row that it updates is one that it has locked, by its own number.
_INSERTED = literal_column("xmax = 0", Boolean)


class KnownDocument(NamedTuple):
    """What the last commit wrote about a document."""

    id: str
    content_hash: str
    body_hash: str
    fingerprint: str
    stamp: str | None
    alias_of: str | None
    version: int


class DocumentRow(NamedTuple):
    """A row to be written by a commit; the fields are the columns of the same names."""

    id: str
    content_hash: str
    body_hash: str
    stamp: str | None
    alias_of: str | None
    node_count: int
    version: int
    nodes_hash: str | None = None  # None: it has no nodes of its own
    payload: bytes | None = None  # of an alias: the document as a batch of its own


# Of a table that is being filled Postgres knows nothing yet, and would rather read all of a collection for every slice
# than look up what is asked for. OFFSET 0 makes it look up each: 3 ms for a thousand, where 300,000 documents took 60.
_EACH = "SELECT found.* FROM unnest(CAST(:asked AS text[])) AS asked(item) CROSS JOIN LATERAL ({} OFFSET 0) AS found"
_LOOK_UP = text(
    _EACH.format(
        f"SELECT {', '.join(KnownDocument._fields)} FROM documents "  # noqa: S608 - constants
        "WHERE collection = :of_collection AND id = asked.item"
    )
)
_LOCK = text(_EACH.format("SELECT id FROM documents WHERE collection = :of_collection AND id = asked.item FOR UPDATE"))
_LOOK_UP_BODIES = text(
    _EACH.format(
        "SELECT body_hash, min(id) FROM documents WHERE collection = :of_collection AND body_hash = asked.item "
        "AND fingerprint = :of_fingerprint AND alias_of IS NULL GROUP BY body_hash"
    )
)


def version_of(job_number: int, sequence: int) -> int:
    """The place of a document in the order of all enqueuing: the job's number, then the place in the job.

    A place below 0 is one in an earlier job: that of a document which this job ingests in another's place.
    """
    return (job_number << 32) + sequence


def known(connection: Connection, collection: str, ids: Collection[str]) -> dict[str, KnownDocument]:
    """What is known of these ids, by id. One query."""
    if connection.dialect.name == "postgresql":
        rows = connection.execute(_LOOK_UP, {"of_collection": collection, "asked": array_literal(ids)})
    else:
        columns = [documents.c[name] for name in KnownDocument._fields]
        rows = connection.execute(select(*columns).where(documents.c.collection == collection, documents.c.id.in_(ids)))
    return {row[0]: KnownDocument(*row) for row in rows.all()}


def known_bodies(
    connection: Connection, collection: str, fingerprint: str, body_hashes: Collection[str]
) -> dict[str, str]:
    """{body hash: id} of documents that have nodes of this fingerprint. One query."""
    if connection.dialect.name == "postgresql":
        asked = {"of_collection": collection, "of_fingerprint": fingerprint, "asked": array_literal(body_hashes)}
        return dict(connection.execute(_LOOK_UP_BODIES, asked).all())
    rows = connection.execute(
        select(documents.c.body_hash, func.min(documents.c.id))
        .where(
            documents.c.collection == collection,
            documents.c.body_hash.in_(body_hashes),
            documents.c.fingerprint == fingerprint,
            documents.c.alias_of.is_(None),
        )
        .group_by(documents.c.body_hash)
    )
    return dict(rows.all())


def lock(connection: Connection, collection: str, ids: Collection[str]) -> None:
    """Lock the rows of these documents until the transaction ends, in the order of `claim`: none waits in a circle."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
        connection.execute(_LOCK, {"of_collection": collection, "asked": array_literal(sorted(ids))})


def code_points(connection: Connection) -> ColumnElement[str]:
    """The ids in the order in which Python sorts them."""
    return collate(documents.c.id, "C" if connection.dialect.name == "postgresql" else "BINARY")


def refresh_stamps(connection: Connection, collection: str, stamps: Sequence[tuple[str, str | None]]) -> None:
    """Remember (id, stamp) of files that were read and found unchanged. One executemany."""
    if stamps:
        connection.execute(
            update(documents)
            .where(documents.c.collection == collection, documents.c.id == bindparam("of_id"))
            .values(stamp=bindparam("of_stamp")),
            [{"of_id": id, "of_stamp": stamp} for id, stamp in stamps],
        )


def guard_version(connection: Connection, collection: str, versions: Sequence[tuple[str, int]]) -> None:
    """Raise the version of unchanged (id, version), so that an older job still at work cannot overwrite them."""
    if versions:
        connection.execute(
            update(documents)
            .where(
                documents.c.collection == collection,
                documents.c.id == bindparam("of_id"),
                documents.c.version < bindparam("of_version"),
            )
            .values(version=bindparam("of_version")),
            [{"of_id": id, "of_version": version} for id, version in versions],
        )


def claim(
    connection: Connection, collection: str, fingerprint: str, job_id: str, rows: Iterable[DocumentRow]
) -> dict[str, bool]:
    """Write the rows, except where a document enqueued later is there already.

    Returns those written: {id: whether the ledger held no row of it}, which on SQLite is never said. The rows stay
    locked until the transaction ends, so no other commit can write nodes of the same documents meanwhile; sorted, so
    that two commits cannot wait for each other.
    """
    values = [
        {"collection": collection, "fingerprint": fingerprint, "job_id": job_id, **row._asdict()}
        for row in sorted(rows)
    ]
    if not values:
        return {}
    insert, parameters = insert_rows(connection, documents, values)
    written = {name: insert.excluded[name] for name in (*DocumentRow._fields[1:], "fingerprint", "job_id")}
    statement = insert.on_conflict_do_update(
        index_elements=[documents.c.collection, documents.c.id],
        set_={**written, "updated_at": now()},
        where=documents.c.version <= insert.excluded.version,
    ).returning(documents.c.id, _INSERTED if connection.dialect.name == "postgresql" else false())
    return {id: bool(inserted) for id, inserted in connection.execute(statement, parameters)}


def vanished_condition(job_id: str) -> ColumnElement[bool]:
    """Documents of the job's collection and scope that the source did not list, and that no later job wrote."""
    listed = exists().where(listings.c.job_id == job_id, listings.c.document_id == documents.c.id)
    return and_(
        jobs.c.id == job_id,
        documents.c.collection == jobs.c.collection,
        func.substr(documents.c.id, 1, func.length(jobs.c.scope)) == jobs.c.scope,
        # `<< 32` written as arithmetic, which both databases share
        documents.c.version < (jobs.c.number + 1) * (1 << 32),
        ~listed,
    )


def vanished_count(connection: Connection, job_id: str) -> tuple[int, int]:
    """(documents that vanished, documents in the job's collection and scope)."""
    gone = connection.execute(
        select(func.count()).select_from(documents).where(vanished_condition(job_id))
    ).scalar_one()
    total = connection.execute(
        select(func.count())
        .select_from(documents.join(jobs, documents.c.collection == jobs.c.collection))
        .where(jobs.c.id == job_id, func.substr(documents.c.id, 1, func.length(jobs.c.scope)) == jobs.c.scope)
    ).scalar_one()
    return gone, total


def vanished(connection: Connection, job_id: str, limit: int) -> list[str]:
    """Ids of documents that vanished, `limit` at most; locked, so that no later job can write them before they go."""
    return list(
        connection.execute(
            select(documents.c.id)
            .where(vanished_condition(job_id))
            .order_by(code_points(connection))
            .limit(limit)
            .with_for_update(of=documents)
        ).scalars()
    )


def delete_documents(connection: Connection, collection: str, ids: Collection[str]) -> int:
    """Forget documents; returns how many the ledger held. Their aliases are promoted before, or vanish themselves."""
    is_named = one_of(connection, documents.c.id, ids)
    rows: Any = connection.execute(delete(documents).where(documents.c.collection == collection, is_named))
    return int(rows.rowcount)
