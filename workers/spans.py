"""Spans of tasks: what a worker does with one message is a trace of its own, linked to what led to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.contracts.traces import Attributes, span
from orchestrator.ledger.jobs import JobRow

__all__ = ["in_span"]


def in_span(
    task: str, job: JobRow, act: Callable[[], dict[str, Any]], *, identity: str | None = None, **more: int
) -> dict[str, Any]:
    """Do it, and say in the span which task that was, of which job, and what came of it; returns its summary."""
    known: Attributes = {"docmill.job": job.id, "docmill.collection": job.collection}
    ids: Attributes = {f"docmill.{name}": value for name, value in more.items()}
    with span(task, kind="consumer", identity=identity, attributes={**known, **ids}) as found:
        summary = act()
        found.set(_counts(summary))
        return summary


def _counts(summary: dict[str, Any]) -> Attributes:
    """The numbers of a summary; what it says in words may hold an error's message, so of that its name alone."""
    counts: dict[str, str | int | float] = {
        f"docmill.{name}": value for name, value in summary.items() if isinstance(value, int | float)
    }
    said = [name for name, value in summary.items() if isinstance(value, str) and name != "reason"]
    return {**counts, "docmill.outcome": said[0]} if said else counts
