"""What an audit asks of the ledger: the documents of a collection as one sorted stream, and a firm hold on a few.

A difference between two streams may be the work of a commit that ran meanwhile. So each is looked at again while its
document is held: a commit locks its documents before it writes their nodes, and who holds a document waits for it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import Connection, Engine, and_, case, delete, exists, select, union, update

from orchestrator.contracts.report import TERMINAL_JOB_STATES, JobState
from orchestrator.contracts.spec import PipelineSpec
from orchestrator.ledger.documents import DocumentRow, claim, code_points, lock
from orchestrator.ledger.engine import reading
from orchestrator.ledger.statements import one_of
from orchestrator.ledger.tables import collections, documents, jobs

__all__ = [
    "LedgerDocument",
    "collection_names",
    "documents_of",
    "forget_contents",
    "held_unknown",
    "hold_unchanged",
    "jobs_at_work",
    "latest_spec",
]

_STREAM_ROWS = 5000
_NOBODY = ""  # the job of a row that holds the place of an unknown document
_BEFORE_ALL = -1  # its version: no document of a job is older


class LedgerDocument(NamedTuple):
    """What the ledger says of a document's nodes.

    Attributes:
        version: the place of its last commit in the order of all enqueuing.
        node_count: nodes the vector store must hold.
        nodes_hash: over their ids; None for an alias, and for what was committed by releases before 0002.
        is_lost: an alias whose first document is not there, so that no nodes stand for it.
    """

    id: str
    version: int
    node_count: int
    nodes_hash: str | None
    is_lost: bool = False


def collection_names(connection: Connection) -> list[str]:
    """Every collection that a job, a document or a vector store of the ledger's database names; sorted."""
    found = union(select(jobs.c.collection), select(documents.c.collection), select(collections.c.name))
    return sorted(connection.execute(found).scalars())


def latest_spec(connection: Connection, collection: str) -> PipelineSpec | None:
    """The spec of the collection's latest job; of jobs that were refused or broke off only where there is no other."""
    broken = jobs.c.state.in_((JobState.FAILED, JobState.CANCELLED))
    spec = connection.execute(
        select(jobs.c.spec)
        .where(jobs.c.collection == collection)
        .order_by(case((broken, 1), else_=0), jobs.c.number.desc())
        .limit(1)
    ).scalar_one_or_none()
    return None if spec is None else PipelineSpec.model_validate(spec)


def jobs_at_work(connection: Connection, collection: str) -> list[str]:
    """Ids of the collection's jobs that have not ended."""
    is_open = jobs.c.state.not_in(TERMINAL_JOB_STATES)
    query = select(jobs.c.id).where(jobs.c.collection == collection, is_open).order_by(jobs.c.number)
    return list(connection.execute(query).scalars())


@contextmanager
def documents_of(engine: Engine, collection: str) -> Iterator[Iterator[LedgerDocument]]:
    """The collection's documents as they are on entering, in the order of their ids' code points, streamed."""
    first = documents.alias("first")
    stands = exists().where(
        first.c.collection == collection, first.c.id == documents.c.alias_of, first.c.alias_of.is_(None)
    )
    columns = [documents.c[name] for name in LedgerDocument._fields[:-1]]
    # A duplicate is recorded as its source is read; the first document follows as the job gets on.
    may_follow = exists().where(jobs.c.id == documents.c.job_id, jobs.c.state.not_in(TERMINAL_JOB_STATES))
    is_lost = and_(documents.c.alias_of.is_not(None), ~stands, ~may_follow).label("is_lost")
    with reading(engine) as connection:
        query = select(*columns, is_lost).where(documents.c.collection == collection).order_by(code_points(connection))
        with connection.execution_options(yield_per=_STREAM_ROWS).execute(query) as rows:
            yield map(LedgerDocument._make, rows)


def hold_unchanged(connection: Connection, collection: str, versions: Mapping[str, int]) -> set[str]:
    """Lock {id: version} until the transaction ends; returns those that still have this version."""
    lock(connection, collection, versions)
    rows = connection.execute(
        select(documents.c.id, documents.c.version).where(
            documents.c.collection == collection, one_of(connection, documents.c.id, versions)
        )
    )
    return {id for id, version in rows if version == versions[id]}


@contextmanager
def held_unknown(connection: Connection, collection: str, ids: Iterable[str]) -> Iterator[set[str]]:
    """Those of the ids that the ledger does not know, kept unknown until the transaction ends.

    Rows in their place, gone again before anybody can see them, make a commit of the same documents wait its turn.
    """
    places = [DocumentRow(id, "", "", None, None, 0, _BEFORE_ALL) for id in ids]
    unknown = set(claim(connection, collection, "", _NOBODY, places))
    yield unknown
    connection.execute(
        delete(documents).where(
            documents.c.collection == collection,
            one_of(connection, documents.c.id, unknown),
            documents.c.job_id == _NOBODY,
        )
    )


def forget_contents(connection: Connection, collection: str, ids: Collection[str]) -> None:
    """Forget what these documents said, so that the next ingestion does them again."""
    connection.execute(
        update(documents)
        .where(documents.c.collection == collection, one_of(connection, documents.c.id, ids))
        .values(content_hash="", stamp=None)
    )
