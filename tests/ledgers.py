"""Short ways to put jobs and batches into a ledger, to turn its clock, and to count what is asked of it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import Connection, Engine, RowMapping, event, select, update

from orchestrator.contracts.payload import BatchDocument, decode_payload
from orchestrator.contracts.report import BatchState, JobState
from orchestrator.contracts.spec import DocstoreStrategy, PipelineSpec, TransformationSpec
from orchestrator.ledger import batches, documents, jobs, tables, window
from orchestrator.ledger.batches import Lease, NewBatch
from orchestrator.ledger.clock import now
from orchestrator.ledger.documents import DocumentRow
from orchestrator.ledger.engine import begin
from orchestrator.ledger.jobs import JobRow
from orchestrator.ledger.payments import Cost

__all__ = ["Ledger", "at_once", "pipeline_spec", "row"]

FINGERPRINT = "f" * 40
STALE_AFTER = 15.0
MAX_ATTEMPTS = 3

_Result = TypeVar("_Result")


def pipeline_spec(
    collection: str = "handbook",
    strategy: DocstoreStrategy = DocstoreStrategy.UPSERTS,
    chunk_size: int = 512,
) -> PipelineSpec:
    """A pipeline as plain data."""
    return PipelineSpec(
        name="handbook",
        collection=collection,
        transformations=(
            TransformationSpec(name="sentence_splitter", version=1, parameters={"chunk_size": chunk_size}),
            TransformationSpec(name="embed", version=1, parameters={"embedder": "hashed"}),
        ),
        strategy=strategy,
    )


def row(id: str, *, version: int = 1, body: str = "body", alias_of: str | None = None) -> DocumentRow:
    """A document as a commit writes it."""
    return DocumentRow(
        id=id,
        content_hash=f"content of {body}",
        body_hash=body,
        stamp="10:5:5:1",
        alias_of=alias_of,
        node_count=0 if alias_of else 1,
        version=version,
    )


def at_once(count: int, act: Callable[[int], _Result]) -> list[_Result]:
    """Call `act` in so many threads, which all begin at the same moment."""
    barrier = Barrier(count)

    def run(index: int) -> _Result:
        barrier.wait()
        return act(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


class Ledger:
    """One database with the schema of this release, and what tests do with it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def call(self, act: Callable[..., _Result], *arguments: Any, **named: Any) -> _Result:
        """Call a function of the ledger in a transaction of its own."""
        with begin(self.engine) as connection:
            return act(connection, *arguments, **named)

    def empty(self) -> None:
        """Remove all rows."""
        with begin(self.engine) as connection:
            for table in reversed(tables.metadata.sorted_tables):
                connection.execute(table.delete())

    def job(self, spec: PipelineSpec | None = None, *, scope: str = "", state: JobState | None = None) -> JobRow:
        """A new job; in another state than `enqueuing` if one is given."""
        made = self.call(jobs.create, uuid4().hex[:12], spec or pipeline_spec(), scope=scope)
        if state is not None:
            self.change_job(made.id, state=state)
        return made

    def batches(self, job_id: str, count: int, *, documents: int = 2, waiting: bool = True) -> None:
        """So many batches of a job, published or not, and without a message for a worker."""
        with begin(self.engine) as connection:  # of one transaction: a reconciler sends what it finds pending
            batches.add(connection, job_id, [NewBatch(b"payload", documents, 100)] * count)
            if waiting:
                window.publish_next(connection, job_id, 10_000)

    def lease(self, job_id: str, number: int = 0, owner: str = "worker") -> Lease | None:
        """Ask for a batch, as a worker does."""
        return self.call(batches.lease, job_id, number, owner, stale_after=STALE_AFTER, max_attempts=MAX_ATTEMPTS)

    def leased(self, job_id: str, number: int = 0, owner: str = "worker") -> Lease:
        """A batch that a worker runs."""
        held = self.lease(job_id, number, owner)
        assert held is not None
        return held

    def transformed(self, job_id: str, *numbers: int, cost: Cost | None = None) -> None:
        """Run batches to where they wait for their commit."""
        for number in numbers:
            assert self.call(batches.mark_transformed, self.leased(job_id, number), cost or Cost()).counts

    def write(self, *rows: DocumentRow, collection: str = "handbook", fingerprint: str = FINGERPRINT) -> set[str]:
        """Write documents, as a commit does."""
        return set(self.call(documents.claim, collection, fingerprint, "job", rows))

    def documents(self, collection: str = "handbook") -> dict[str, RowMapping]:
        """The documents of a collection by id."""
        query = select(tables.documents).where(tables.documents.c.collection == collection)
        with begin(self.engine) as connection:
            return {found["id"]: found for found in connection.execute(query).mappings()}

    def batch(self, job_id: str, number: int = 0) -> RowMapping:
        """The row of a batch."""
        return self.rows_of_batches(job_id)[number]

    def rows_of_batches(self, job_id: str) -> list[RowMapping]:
        """The rows of a job's batches by number."""
        query = select(tables.batches).where(tables.batches.c.job_id == job_id).order_by(tables.batches.c.number)
        with begin(self.engine) as connection:
            return list(connection.execute(query).mappings())

    def states(self, job_id: str) -> list[BatchState]:
        """The states of a job's batches by number."""
        return [BatchState(found["state"]) for found in self.rows_of_batches(job_id)]

    def job_row(self, job_id: str) -> RowMapping:
        """The row of a job."""
        with begin(self.engine) as connection:
            return connection.execute(select(tables.jobs).where(tables.jobs.c.id == job_id)).mappings().one()

    def payloads(self, job_id: str) -> list[BatchDocument]:
        """The documents of a job's batches."""
        rows = self.call(Connection.execute, select(tables.batches.c.payload).where(tables.batches.c.job_id == job_id))
        return [document for payload in rows.scalars() for document in decode_payload(payload)]

    def change_job(self, job_id: str, **values: Any) -> None:
        """Write into the row of a job."""
        self.call(Connection.execute, update(tables.jobs).where(tables.jobs.c.id == job_id).values(**values))

    def change_batch(self, job_id: str, number: int = 0, **values: Any) -> None:
        """Write into the row of a batch."""
        condition = (tables.batches.c.job_id == job_id) & (tables.batches.c.number == number)
        self.call(Connection.execute, update(tables.batches).where(condition).values(**values))

    def change_batches(self, job_id: str, **values: Any) -> None:
        """Write into the rows of all batches of a job."""
        self.call(Connection.execute, update(tables.batches).where(tables.batches.c.job_id == job_id).values(**values))

    def age_batch(self, job_id: str, number: int, column: str, seconds: float) -> None:
        """Turn a moment of a batch to so many seconds ago."""
        self.change_batch(job_id, number, **{column: now(-seconds)})

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """The statements sent meanwhile; an executemany counts once."""
        sent: list[str] = []

        def listen(_: Connection, __: Any, statement: str, *___: Any) -> None:
            if not statement.startswith("BEGIN"):
                sent.append(statement)

        event.listen(self.engine, "before_cursor_execute", listen)
        try:
            yield sent
        finally:
            event.remove(self.engine, "before_cursor_execute", listen)
