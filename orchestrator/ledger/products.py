"""Products: the nodes of jobs without a vector store, kept with the job, document by document."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Engine, delete, func, select

from orchestrator.ledger.engine import begin
from orchestrator.ledger.statements import insert_into
from orchestrator.ledger.tables import products

__all__ = ["Product", "forget", "keep", "stream"]

_PAGE = 200  # rows looked at a time
_PAGE_BYTES = 8 * 1024 * 1024  # of them fetched at a time, about


class Product(NamedTuple):
    """The nodes of one document, packed. `sequence` is the document's place in its job."""

    document_id: str
    sequence: int
    nodes: bytes


def keep(connection: Connection, job_id: str, found: Sequence[Product]) -> None:
    """Write products; of two documents with one id in a job the later stays. One executemany."""
    if not found:
        return
    insert = insert_into(connection.dialect.name, products)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=[products.c.job_id, products.c.document_id],
            set_={"sequence": insert.excluded.sequence, "nodes": insert.excluded.nodes},
            where=products.c.sequence <= insert.excluded.sequence,
        ),
        [{"job_id": job_id, **product._asdict()} for product in found],
    )


def stream(engine: Engine, job_id: str) -> Iterator[bytes]:
    """The packed nodes of each document, in the order of the source; no transaction is open while they are used."""
    last: int | None = None
    while True:
        with begin(engine) as connection:
            page = _page(connection, job_id, last)
        if not page:
            return
        for last, nodes in page:  # noqa: B007 - where to go on
            yield nodes


def _page(connection: Connection, job_id: str, last: int | None) -> list[tuple[int, bytes]]:
    """As many of the next rows as weigh a few megabytes, and at least one."""
    columns = products.c
    following = [columns.job_id == job_id, *([] if last is None else [columns.sequence > last])]
    sizes = connection.execute(
        select(columns.sequence, func.length(columns.nodes)).where(*following).order_by(columns.sequence).limit(_PAGE)
    ).all()
    total, until = 0, None
    for sequence, size in sizes:
        if until is not None and total + size > _PAGE_BYTES:
            break
        total, until = total + size, sequence
    if until is None:
        return []
    rows = connection.execute(
        select(columns.sequence, columns.nodes).where(*following, columns.sequence <= until).order_by(columns.sequence)
    )
    return [(sequence, nodes) for sequence, nodes in rows]


def forget(connection: Connection, job_id: str) -> int:
    """Remove the products of a job; returns of how many documents."""
    return connection.execute(delete(products).where(products.c.job_id == job_id)).rowcount
