"""How fast a job goes, and what is said of it: the pace, the line, the object and the three lines of a terminal."""

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from orchestrator.contracts.report import BatchState, JobState
from orchestrator.ledger.reports import Progress
from orchestrator.progress import Pace, progress_line, progress_object
from orchestrator.progress_board import Board

_AT_FIRST = Progress(
    job_id="0123456789ab",
    state=JobState.RUNNING,
    paused=False,
    seen=1000,
    settled=0,
    nodes=0,
    tokens=0,
    failed=0,
    seconds=0.0,
    workers=2,
    batches={BatchState.RUNNING: 2},
    stalled=0,
    reasons=[],
)


def _looks(pace: Pace, *looks: tuple[float, int], **more: Any) -> Progress:
    """Look at (seconds, documents settled) with three nodes a document; returns the last look."""
    found = _AT_FIRST
    for seconds, settled in looks:
        found = replace(_AT_FIRST, seconds=seconds, settled=settled, nodes=3 * settled, **more)
        pace.look(found)
    return found


def test_nothing_is_made_up_at_the_start() -> None:
    """Rate and time left are unknown until something has changed, and two seconds have been seen."""
    pace = Pace()
    _looks(pace, (0.0, 0))
    assert (pace.nodes_per_second, pace.seconds_left) == (None, None)
    _looks(pace, (1.0, 10))
    assert (pace.nodes_per_second, pace.seconds_left) == (None, None)
    _looks(pace, (2.0, 20))
    assert (pace.nodes_per_second, pace.seconds_left) == (30.0, 98.0)


def test_the_pace_is_that_of_the_last_seconds() -> None:
    """A job that has slowed down is shown at its present rate within ten seconds or so."""
    pace = Pace()
    _looks(pace, *((float(second), 40 * second) for second in range(11)))
    assert pace.nodes_per_second == pytest.approx(120.0)
    _looks(pace, *((10.0 + second, 400 + 2 * second) for second in range(1, 13)))
    assert pace.nodes_per_second == pytest.approx(6.0)
    assert pace.seconds_left == pytest.approx((1000 - 424) / 2)


def test_a_slow_job_has_a_pace_between_its_commits() -> None:
    """Where a commit comes once a minute, the pace is measured over the last two, and falls while none comes."""
    pace = Pace()
    _looks(pace, (0.0, 0), (60.0, 100), (120.0, 200))
    assert pace.seconds_left == pytest.approx(480.0)
    _looks(pace, *((120.0 + second, 200) for second in range(1, 60)))
    assert pace.seconds_left == pytest.approx(800 / (100 / 119))


def test_what_was_settled_while_reading_is_not_the_pace_of_the_work() -> None:
    """While the source is read no time left is known, and its burst of unchanged documents counts for nothing after."""
    pace = Pace()
    _looks(pace, (0.0, 0), (2.0, 500), (4.0, 900), state=JobState.ENQUEUING)
    assert pace.seconds_left is None
    assert pace.nodes_per_second == pytest.approx(675.0)
    _looks(pace, (5.0, 901), (9.0, 905))
    assert pace.seconds_left == pytest.approx(95.0)


def test_a_paused_job_has_no_time_left() -> None:
    """Nobody knows when a paused job ends; once resumed it is measured anew."""
    pace = Pace()
    _looks(pace, (0.0, 0), (4.0, 40))
    _looks(pace, (5.0, 50), (9.0, 60), paused=True)
    assert pace.seconds_left is None
    _looks(pace, (100.0, 60), (105.0, 110))
    assert pace.seconds_left == pytest.approx(89.0)


def test_a_line_says_everything() -> None:
    """One line has documents, nodes, the pace, tokens, the time left, workers, failures, and what holds the job up."""
    pace = Pace()
    found = _looks(
        pace, (0.0, 0), (4.0, 500), tokens=1_234_567, failed=3, stalled=1, reasons=["ServiceUnreachable:\n  away"]
    )
    assert progress_line(found, pace) == (
        "job 0123456789ab running: 500 of 1,000 documents, 1,500 nodes, 375 nodes/s, 1,234,567 tokens, ETA 0:00:04, "
        "2 workers, 3 failed, 1 stalled, retrying: ServiceUnreachable: away"
    )
    said = progress_object(found, pace)
    assert (said["documents"], said["eta_seconds"]) == ({"seen": 1000, "settled": 500, "failed": 3}, 4.0)


def test_a_job_that_has_ended_has_its_pace_from_beginning_to_end() -> None:
    """At the end the line has the mean rate, and no time left."""
    pace = Pace()
    found = _looks(pace, (0.0, 0), (4.0, 10), (50.0, 1000), state=JobState.SUCCEEDED_WITH_FAILURES)
    line = progress_line(found, pace)
    assert line.startswith("job 0123456789ab succeeded with failures: 1,000 of 1,000 documents, 3,000 nodes, 60 nodes/")
    assert "ETA" not in line


@pytest.mark.parametrize("state", [JobState.ENQUEUING, JobState.RUNNING, JobState.SUCCEEDED_WITH_FAILURES])
def test_it_fits_into_80_columns(state: JobState) -> None:
    """Of a job of millions no count is cut off at 80 columns; what holds it up may be shortened."""
    board = Board()
    big = replace(_AT_FIRST, seen=98_765_432, settled=87_654_321, nodes=876_543_210, tokens=98_765_432_109)
    for seconds in (90_000.0, 90_004.0):
        board.show(
            replace(
                big,
                state=state,
                seconds=seconds,
                nodes=big.nodes + int(9_000 * seconds),
                workers=1000,
                failed=123_456,
                reasons=["TransientError: " + "the server is busy " * 9],
            )
        )
    console = Console(width=80, color_system=None, force_terminal=True)
    with console.capture() as shown:
        console.print(board.drawn())
    lines = shown.get().splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert "87,654,321 of 98,765,432 documents" in lines[1]
    assert lines[1].endswith("98.8B tokens")
    assert "1,000 workers  123,456 failed  retrying: " in lines[2]
    assert lines[2].endswith("…")
