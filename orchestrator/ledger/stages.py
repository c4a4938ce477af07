"""Stages: where the time of a job went, and how much it did when.

The batches of a job overlap, so their times do not add up to the job's. Each moment of the job belongs to the most
advanced thing that any of its batches did then; what is left is time in which none did anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import ceil
from typing import Any

from sqlalchemy import ColumnElement, Connection, Label, and_, case, func, literal, or_, select, union_all

from orchestrator.contracts.report import BatchState
from orchestrator.ledger.clock import UTCDateTime, milliseconds
from orchestrator.ledger.tables import batches

__all__ = ["Stage", "StageTime", "Stages", "Throughput", "stages", "throughput"]

_MOST_BARS = 60
_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)  # seconds


class Stage(StrEnum):
    """What a batch is in; of two at once the first counts."""

    TRANSFORMING = "transforming"  # a worker runs it
    COMMITTING = "committing"  # its nodes wait for their commit, or are being committed
    WAITING = "waiting"  # its message waits for a worker


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage of a job.

    Attributes:
        seconds: of the job's time, in which this was the first of the stages that any batch was in.
        batch_seconds: over all batches, of the last attempt of each.
        batches: how many went through it, or are in it.
    """

    stage: Stage
    seconds: float
    batch_seconds: float
    batches: int


@dataclass(frozen=True, slots=True)
class Stages:
    """Where the time of a job went: the stages and the rest come to all of it.

    Attributes:
        rest: seconds in which no batch was in any stage: the source was read, the job was paused, a retry was due
            later, or an attempt was made again and its first time is not known.
    """

    seconds: float
    stages: Sequence[StageTime]
    rest: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """Documents whose batches ended, over the time of a job.

    Attributes:
        width: seconds of one step.
        documents: by step, from the job's beginning to its end, or until now.
    """

    width: int
    documents: Sequence[int]


def stages(connection: Connection, job_id: str, begin: datetime, end: datetime) -> Stages:
    """The stages of a job that began and ended then. One query, sorted over its batches."""
    spans = union_all(*(_spans(job_id, rank, stage, end) for rank, stage in enumerate(Stage))).subquery()
    from_, to = spans.c.begin, spans.c.end
    columns: list[Label[Any]] = []
    for rank, _ in enumerate(Stage):
        # The length of a union of spans: of each, what lies behind the end of all that began before it.
        reached = func.max(case((spans.c.rank <= rank, to))).over(order_by=(from_, to), rows=(None, -1))
        columns.append(reached.label(f"reached{rank}"))
    ordered = select(spans, *columns).subquery()
    sums: list[Label[Any]] = []
    for rank, _ in enumerate(Stage):
        reached_ = ordered.c[f"reached{rank}"]
        start = case((reached_ > ordered.c.begin, reached_), else_=ordered.c.begin)
        beyond = and_(ordered.c.rank <= rank, ordered.c.end > start)
        own = ordered.c.rank == rank
        sums += [
            func.sum(case((beyond, ordered.c.end - start), else_=0)).label(f"covered{rank}"),
            func.sum(case((own, ordered.c.end - ordered.c.begin), else_=0)).label(f"all{rank}"),
            func.sum(case((own, 1), else_=0)).label(f"count{rank}"),
        ]
    row = connection.execute(select(*sums)).mappings().one()
    covered = [0.0, *(float(row[f"covered{rank}"] or 0) / 1000 for rank, _ in enumerate(Stage))]
    found = [
        StageTime(
            stage,
            covered[rank + 1] - covered[rank],
            float(row[f"all{rank}"] or 0) / 1000,
            int(row[f"count{rank}"] or 0),
        )
        for rank, stage in enumerate(Stage)
    ]
    seconds = max((end - begin).total_seconds(), covered[-1])
    return Stages(seconds, found, seconds - covered[-1])


def _spans(job_id: str, rank: int, stage: Stage, end: datetime) -> Any:
    """When each batch was in a stage, in milliseconds: that of its last attempt, for the row knows no other."""
    published, started = batches.c.published_at, batches.c.started_at
    transformed, finished = batches.c.transformed_at, batches.c.finished_at
    until = literal(end, UTCDateTime())
    is_transformed = transformed >= started
    from_, to, condition = {
        Stage.WAITING: (
            published,
            case((started >= published, started), else_=func.coalesce(finished, until)),
            or_(started >= published, batches.c.state.in_((BatchState.WAITING, BatchState.CANCELLED))),
        ),
        Stage.TRANSFORMING: (
            started,
            case((is_transformed, transformed), else_=func.coalesce(finished, until)),
            or_(is_transformed, finished.is_not(None), batches.c.state == BatchState.RUNNING),
        ),
        Stage.COMMITTING: (
            transformed,
            func.coalesce(finished, until),
            and_(is_transformed, or_(finished.is_not(None), batches.c.state == BatchState.TRANSFORMED)),
        ),
    }[stage]
    begin, past = milliseconds(from_), _earlier(milliseconds(to), milliseconds(until))
    return select(literal(rank).label("rank"), begin.label("begin"), past.label("end")).where(
        batches.c.job_id == job_id, from_.is_not(None), condition, past > begin
    )


def _earlier(one: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
    return case((one < other, one), else_=other)


def throughput(connection: Connection, job_id: str, begin: datetime, end: datetime) -> Throughput:
    """Documents by step of time, in as many steps as can be seen side by side. One query."""
    seconds = (end - begin).total_seconds()
    width = next((width for width in _WIDTHS if seconds <= width * _MOST_BARS), _WIDTHS[-1])
    first = milliseconds(literal(begin, UTCDateTime()))
    step = ((milliseconds(batches.c.finished_at) - first) // (width * 1000)).label("step")
    rows = connection.execute(
        select(step, func.sum(batches.c.documents))
        .where(batches.c.job_id == job_id, batches.c.state.in_((BatchState.COMMITTED, BatchState.FAILED)))
        .group_by(step)
    ).all()
    done = [0] * max(1, ceil(seconds / width))
    for number, documents in rows:
        done[min(max(0, int(number)), len(done) - 1)] += int(documents)
    return Throughput(width, done)
