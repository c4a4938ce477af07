"""Progress of a job, for people and programs: how fast it goes, and what is said of it."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator.contracts.report import TERMINAL_JOB_STATES, BatchState, JobState

if TYPE_CHECKING:
    from orchestrator.ledger.reports import Progress

__all__ = [
    "OnProgress",
    "Pace",
    "notes",
    "progress_line",
    "progress_object",
    "shown_duration",
    "shown_rate",
    "shown_workers",
]

OnProgress: TypeAlias = Callable[["Progress"], None]

_WORKED_ON = {BatchState.RUNNING, BatchState.TRANSFORMED, BatchState.RETRYING}
_UNKNOWN = "–"  # noqa: RUF001 - a dash is meant


class Pace:
    """How fast one job goes: over the last ten seconds, or since the change before the last one if that is longer ago.

    Commits come in segments: over a single second the pace would be nothing, or far too much.
    """

    _WINDOW_SECONDS = 10.0
    _LEAST_SECONDS = 2.0  # over less, a rate is a guess

    def __init__(self) -> None:
        self._changes: deque[Progress] = deque()
        self._now: Progress | None = None

    def look(self, found: "Progress") -> None:
        """Take note of the job's progress; looks come in the order of time."""
        changes = self._changes
        # While the source is read much is settled without work, and while it is paused nothing is: the pace is another.
        if (
            found.state not in TERMINAL_JOB_STATES
            and changes
            and (changes[-1].state, changes[-1].paused) != (found.state, found.paused)
        ):
            changes.clear()
        if not changes or (changes[-1].settled, changes[-1].nodes) != (found.settled, found.nodes):
            changes.append(found)
        while len(changes) > 2 and changes[1].seconds <= found.seconds - self._WINDOW_SECONDS:
            changes.popleft()
        self._now = found

    @property
    def nodes_per_second(self) -> float | None:
        """Nodes committed a second, of a job that has ended from its beginning to its end; None while it is unknown."""
        if self._now is not None and self._now.state in TERMINAL_JOB_STATES:
            return self._now.nodes / self._now.seconds if self._now.seconds else None
        return self._rate(lambda found: found.nodes)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all documents are settled, at this pace; None while it is unknown.

        It is while the source is read: nobody knows how much is still to come.
        """
        rate = self._rate(lambda found: found.settled)
        if self._now is None or self._now.paused or self._now.state is not JobState.RUNNING or not rate:
            return None
        return (self._now.seen - self._now.settled) / rate

    def _rate(self, counted: Callable[["Progress"], int]) -> float | None:
        if self._now is None or len(self._changes) < 2:
            return None
        first = self._changes[0]
        seconds = self._now.seconds - first.seconds
        return (counted(self._now) - counted(first)) / seconds if seconds >= self._LEAST_SECONDS else None


def progress_line(found: "Progress", pace: Pace) -> str:
    """All that is to be said of a job at a moment, as one line of text."""
    state = found.state.replace("_", " ")
    counts = (
        f"{found.settled:,} of {found.seen:,} documents",
        f"{found.nodes:,} nodes",
        shown_rate(pace),
        f"{found.tokens:,} tokens",
        *([] if found.state in TERMINAL_JOB_STATES else [f"ETA {shown_duration(pace.seconds_left)}"]),
        shown_workers(found),
        f"{found.failed:,} failed",
        *notes(found),
    )
    return f"job {found.job_id} {state}: {', '.join(counts)}"


def progress_object(found: "Progress", pace: Pace) -> dict[str, Any]:
    """The same as plain data."""
    rate, left = pace.nodes_per_second, pace.seconds_left
    return {
        "job_id": found.job_id,
        "state": found.state,
        "paused": found.paused,
        "seconds": round(found.seconds, 3),
        "documents": {"seen": found.seen, "settled": found.settled, "failed": found.failed},
        "nodes": found.nodes,
        "nodes_per_second": None if rate is None else round(rate, 1),
        "tokens": found.tokens,
        "eta_seconds": None if left is None else round(left, 1),
        "workers": found.workers,
        "batch_states": found.batches,
        "stalled": found.stalled,
        "reasons": found.reasons,
    }


def shown_duration(seconds: float | None) -> str:
    """Hours, minutes and seconds; a dash for what is not known."""
    if seconds is None:
        return _UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def shown_rate(pace: Pace) -> str:
    """The pace in nodes a second."""
    rate = pace.nodes_per_second
    return f"{_UNKNOWN if rate is None else f'{rate:,.0f}' if rate >= 10 else f'{rate:.1f}'} nodes/s"


def shown_workers(found: "Progress") -> str:
    """The worker processes that are at it."""
    return f"{found.workers:,} worker{'' if found.workers == 1 else 's'}"


def notes(found: "Progress") -> list[str]:
    """What keeps the job from going on, if anything does."""
    said = []
    if found.paused:
        said.append("paused")
    elif found.batches.get(BatchState.WAITING) and not found.batches.keys() & _WORKED_ON:
        said.append("waiting for a worker")
    if found.stalled:
        said.append(f"{found.stalled:,} stalled")
    if found.reasons:
        said.append(f"retrying: {' '.join(found.reasons[0].split())}")
    return said
