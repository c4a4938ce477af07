"""The results as a table for people, and as JSON for programs."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.trial import Result

__all__ = ["as_json", "print_table"]

_COLUMNS = ("fault", "broker", "times", "jobs", "lost", "copied", "failed", "seconds to recover", "verify")


def print_table(results: Sequence[Result], skipped: Sequence[tuple[str, str]]) -> None:
    """One line for each fault and broker, then what could not be tried and what went wrong."""
    console = Console(width=130)
    table = Table(*_COLUMNS)
    for (fault, broker), group in groupby(results, lambda result: (result.fault, result.broker)):
        table.add_row(*map(str, (fault, broker, *_summary(list(group)))))
    console.print(table)
    for name, reason in skipped:
        console.print(f"{name} was not tried: {reason}", style="dim", highlight=False)
    for result in results:
        for problem in _problems(result):
            console.print(f"{result.fault} on {result.broker}: {problem}", style="red", highlight=False, markup=False)


def _summary(group: Sequence[Result]) -> tuple[object, ...]:
    judgements = [result.judgement for result in group if result.judgement is not None]
    seconds = [f"{end(result.seconds for result in group):.1f}" for end in (min, max)]
    return (
        len(group),
        sum(len(result.jobs) for result in group),
        sum(judgement.lost for judgement in judgements),
        sum(judgement.copied for judgement in judgements),
        sum(judgement.failed for judgement in judgements),
        " to ".join(dict.fromkeys(seconds)),
        "clean" if all(result.is_good for result in group) else "NOT CLEAN",
    )


def _problems(result: Result) -> list[str]:
    judgement = result.judgement
    if judgement is None:
        return list(result.notes)
    counts = [f"{judgement.lost} documents lost"] * bool(judgement.lost)
    counts += [f"{judgement.copied} documents copied"] * bool(judgement.copied)
    return [*result.notes, *counts, *judgement.differences[:5]]


def as_json(results: Sequence[Result], skipped: Sequence[tuple[str, str]], seed: int) -> dict[str, Any]:
    """Everything that was measured."""
    trials = [{**asdict(result), "good": result.is_good} for result in results]
    return {"seed": seed, "trials": trials, "skipped": [{"fault": name, "reason": reason} for name, reason in skipped]}
