"""Aliases: documents whose body another one has too, and whose nodes stand for both.

An alias keeps its document in the ledger. When the first no longer stands for it (it failed, says something else, or
is deleted), one of its aliases is ingested in its place, and the others become aliases of that one. Where the first
says something else, it waits for its heir, so that what it said before is in search all the time.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, exists, select, true, update

from orchestrator.contracts.errors import PayloadError
from orchestrator.contracts.payload import BatchDocument, decode_payload, encode_payload
from orchestrator.ledger import batches
from orchestrator.ledger.batches import NewBatch
from orchestrator.ledger.binary_results import IN_BINARY
from orchestrator.ledger.documents import DocumentRow, code_points, known, lock, vanished_condition, version_of
from orchestrator.ledger.jobs import JobRow
from orchestrator.ledger.statements import one_of, pages
from orchestrator.ledger.tables import documents, jobs

__all__ = ["are_forsaken", "hold", "promote", "promote_from_vanished", "take_over"]


_ANY_ALIAS = select(
    exists().where(documents.c.collection == bindparam("of_collection"), documents.c.alias_of.is_not(None))
)


class _Alias(NamedTuple):
    id: str
    alias_of: str
    body_hash: str
    version: int
    job_id: str


def hold(connection: Connection, job: JobRow) -> bool:
    """Whether the collection has aliases. If so the job is locked, before its batches are: so does whoever cancels."""
    if not _has_any(connection, job):
        return False
    batches.lock_job(connection, job.id)
    return True


def are_forsaken(connection: Connection, job: JobRow, owners: Iterable[str]) -> bool:
    """Whether some of these documents do not stand for their aliases any more; only who holds the job can promote."""
    if not _has_any(connection, job):
        return False
    forsaken = exists().where(documents.c.collection == job.collection, _is_forsaken())
    return any(
        connection.execute(select(forsaken.where(one_of(connection, documents.c.alias_of, ids)))).scalar()
        for ids in pages(owners)
    )


def promote(connection: Connection, job: JobRow, owners: Iterable[str]) -> int:
    """Let the job ingest the aliases of those documents that do not stand for them any more; returns how many."""
    return _promote(connection, job, owners, _is_forsaken())


def promote_from_vanished(connection: Connection, job: JobRow, owners: Iterable[str]) -> int:
    """Before these documents are deleted, let the job ingest those of their aliases that stay; returns how many."""
    vanishes = exists(select(jobs.c.id).where(vanished_condition(job.id)))
    return _promote(connection, job, owners, ~vanishes)


def take_over(connection: Connection, job: JobRow, rows: Iterable[DocumentRow]) -> dict[str, list[BatchDocument]]:
    """{document: those of its aliases to be ingested before it}, of rows about to be written with another body.

    Until these are committed, nodes of the old body are nobody's but the document's: its row must not be written yet.
    """
    written = {row.id: row for row in rows}
    leaving = [
        before.id
        for ids in pages(written)
        for before in known(connection, job.collection, ids).values()
        if before.body_hash != written[before.id].body_hash and before.version <= written[before.id].version
    ]
    aliases = [id for ids in pages(leaving) for id in _ids_of_aliases(connection, job, ids)]
    if not aliases:
        return {}
    # In the order of all others who lock documents, so that none waits in a circle.
    lock(connection, job.collection, {*written, *aliases})
    found: dict[str, list[BatchDocument]] = {}
    for owner, heir in _heirs(connection, job, leaving, true()):
        found.setdefault(owner, []).append(heir)
    return found


def _has_any(connection: Connection, job: JobRow) -> bool:
    return bool(connection.execute(_ANY_ALIAS, {"of_collection": job.collection}).scalar())


def _is_forsaken() -> ColumnElement[bool]:
    """Of an alias: the ledger does not hold the document it names with the same body and with nodes of its own."""
    owner = documents.alias("owner")
    return ~exists().where(
        owner.c.collection == documents.c.collection,
        owner.c.id == documents.c.alias_of,
        owner.c.alias_of.is_(None),
        owner.c.body_hash == documents.c.body_hash,
    )


def _ids_of_aliases(connection: Connection, job: JobRow, owners: Sequence[str]) -> Iterable[str]:
    of_owners = one_of(connection, documents.c.alias_of, owners)
    return connection.execute(
        select(documents.c.id).where(documents.c.collection == job.collection, of_owners)
    ).scalars()


def _promote(connection: Connection, job: JobRow, owners: Iterable[str], condition: Any) -> int:
    heirs = [heir for _, heir in _heirs(connection, job, owners, condition)]
    batches.add(connection, job.id, [NewBatch(encode_payload([heir]), 1, len(heir.content)) for heir in heirs])
    return len(heirs)


def _heirs(
    connection: Connection, job: JobRow, owners: Iterable[str], condition: Any
) -> list[tuple[str, BatchDocument]]:
    """(Owner, the alias that takes its place), for each body; the other aliases become those of the heir."""
    heirs = []
    for ids in pages(owners):
        columns = [documents.c[name] for name in _Alias._fields]
        rows = connection.execute(
            select(*columns)
            .where(documents.c.collection == job.collection, one_of(connection, documents.c.alias_of, ids), condition)
            .order_by(code_points(connection))
            .with_for_update(of=documents)
        )
        families: dict[tuple[str, str], list[_Alias]] = {}
        for alias in map(_Alias._make, rows.all()):
            families.setdefault((alias.alias_of, alias.body_hash), []).append(alias)
        for heir, *others in families.values():
            document = _take_place(connection, job, heir)
            if document is not None:
                heirs.append((heir.alias_of, document))
            _point_at(connection, job.collection, heir.id, [other.id for other in others])
    return heirs


def _take_place(connection: Connection, job: JobRow, heir: _Alias) -> BatchDocument | None:
    """The heir as a document to be ingested. Its row goes: until it is committed it is one not ingested yet."""
    this = and_(documents.c.collection == job.collection, documents.c.id == heir.id)
    query = select(documents.c.payload).where(this).execution_options(**IN_BINARY)
    payload = connection.execute(query).scalar_one()
    connection.execute(delete(documents).where(this))
    try:
        (document,) = decode_payload(payload or b"")
    except (PayloadError, ValueError):
        return None  # recorded by a release that kept none, or damaged: new at the next ingestion
    # It was counted as a duplicate, if this job counted it at all; now its batch will count it.
    counted = {"duplicate": jobs.c.duplicate - 1} if heir.job_id == job.id else {"seen": jobs.c.seen + 1}
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(**counted))
    # The place it was given when it was recorded: whatever has been said of it since then wins.
    return document._replace(sequence=heir.version - version_of(job.number, 0))


def _point_at(connection: Connection, collection: str, heir: str, ids: Iterable[str]) -> None:
    for some in pages(ids):
        connection.execute(
            update(documents)
            .where(documents.c.collection == collection, one_of(connection, documents.c.id, some))
            .values(alias_of=heir)
        )
