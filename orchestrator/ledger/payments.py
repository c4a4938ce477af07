"""Payments: the tokens that each attempt at a batch has spent, whatever became of it. Their sum is the job's bill.

An attempt has rows of its own, which only grow: saying the same again changes nothing, and an attempt that lost
its lease, or whose job was cancelled, has still been paid for.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

from sqlalchemy import ColumnElement, Connection, Executable, case, func, select, tuple_

from orchestrator.contracts.hashing import digest
from orchestrator.contracts.report import BillLine
from orchestrator.ledger.statements import insert_into
from orchestrator.ledger.storable import storable
from orchestrator.ledger.tables import payments

__all__ = ["Cost", "Payment", "bill", "bills", "pay", "spent"]

_NAME_CHARACTERS = 200  # of four bytes: Postgres takes keys of 2,704 bytes
_TOKENS = ("embedding", "prompt", "completion", "cached")


@dataclass(frozen=True, slots=True)
class Payment:
    """What one attempt spent on one model for one transformation.

    Attributes:
        estimated: the tokens were counted by us, because the provider did not report them.
        cached: how many of `prompt` the provider had in its own cache.
    """

    model: str
    transformation: str
    estimated: bool
    embedding: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What one attempt at a batch cost: tokens, and look-ups in the ingestion cache."""

    payments: Sequence[Payment] = ()
    cache_hits: int = 0
    cache_misses: int = 0


def pay(connection: Connection, job_id: str, batch: int, attempt: int, found: Sequence[Payment]) -> None:
    """Write down what an attempt has spent so far; of what it said before, the larger number stands."""
    if not found:
        return
    connection.execute(
        _pay(connection.dialect.name),
        [
            {
                "job_id": job_id,
                "batch": batch,
                "attempt": attempt,
                **asdict(payment),
                "model": _name(payment.model),
                "transformation": _name(payment.transformation),
            }
            for payment in found
        ],
    )


@cache
def _pay(dialect: str) -> Executable:
    insert = insert_into(dialect, payments)
    return insert.on_conflict_do_update(
        index_elements=list(payments.primary_key.columns),
        set_={name: _larger(payments.c[name], insert.excluded[name]) for name in _TOKENS},
    )


def _name(text: str) -> str:
    """A name that fits the key of the table: a long one is cut, and tells itself apart by its hash."""
    if len(text) <= _NAME_CHARACTERS:
        return storable(text)
    return f"{storable(text[:_NAME_CHARACTERS])}… {digest(text)[:12]}"


def _larger(before: ColumnElement[int], now: ColumnElement[int]) -> ColumnElement[int]:
    # Two transactions of one attempt may come in any order, and what is spent does not become less.
    return case((now > before, now), else_=before)


def spent(connection: Connection, job_id: str, *, besides: tuple[int, int] | None = None) -> int:
    """All tokens that the attempts of a job have spent; without those of one (batch, attempt), if it is given."""
    total = payments.c.embedding + payments.c.prompt + payments.c.completion
    query = select(func.coalesce(func.sum(total), 0)).where(payments.c.job_id == job_id)
    if besides is not None:
        query = query.where(tuple_(payments.c.batch, payments.c.attempt) != besides)
    return int(connection.execute(query).scalar_one())


def bill(connection: Connection, job_id: str) -> list[BillLine]:
    """A job's tokens by transformation and model."""
    return bills(connection, [job_id])[job_id]


def bills(connection: Connection, job_ids: Sequence[str]) -> dict[str, list[BillLine]]:
    """{job: its tokens by transformation and model}, of a few jobs in one query."""
    total = payments.c.embedding + payments.c.prompt + payments.c.completion
    rows = connection.execute(
        select(
            payments.c.job_id,
            payments.c.transformation,
            payments.c.model,
            *(func.sum(payments.c[name]).label(name) for name in _TOKENS),
            func.sum(case((payments.c.estimated, total), else_=0)).label("estimated"),
        )
        .where(payments.c.job_id.in_(job_ids))
        .group_by(payments.c.job_id, payments.c.transformation, payments.c.model)
        .order_by(payments.c.transformation, payments.c.model)
    ).mappings()
    found: dict[str, list[BillLine]] = {id: [] for id in job_ids}
    for row in rows:
        found[row["job_id"]].append(BillLine.model_validate(row))
    return found
