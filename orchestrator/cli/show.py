"""How things are shown: reports, jobs and failures; as tables for people, as JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.contracts.report import JobState, Report, TokenCounts

__all__ = ["STATE_STYLES", "print_json", "print_report", "print_table", "report_object"]

STATE_STYLES = {
    JobState.SUCCEEDED: "green",
    JobState.SUCCEEDED_WITH_FAILURES: "yellow",
    JobState.FAILED: "red",
    JobState.CANCELLED: "red",
}


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, indent=2, default=str))


def report_object(report: Report) -> dict[str, Any]:
    """The report as plain data; `error` only where there is one."""
    return report.model_dump(mode="json", exclude_none=True)


def print_table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table as wide as the terminal; piped, tab-separated lines that nothing cuts off."""
    console = Console()
    if not console.is_terminal:
        typer.echo("\t".join(columns))
        for row in rows:
            typer.echo("\t".join(" ".join(str(cell).split()) for cell in row))
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    console.print(table)


def print_report(report: Report) -> None:
    """The report as a few aligned lines."""
    console = Console(highlight=False)
    state = report.state.replace("_", " ")
    console.print(Text.assemble("job ", (report.job_id, "bold"), "  ", (state, STATE_STYLES.get(report.state, ""))))
    if report.error:
        console.print(Text(f"  error      {report.error}", style="red"), soft_wrap=True)
    lines = [
        ("documents", _shown(report.documents.model_dump())),
        ("nodes", _shown(report.nodes.model_dump())),
        ("tokens", _shown_tokens(report.tokens) or "0 embedding"),
        *(("", f"  {line.transformation} by {line.model}: {_shown_tokens(line)}") for line in report.bill),
        ("cache", _shown(report.cache.model_dump())),
        ("batches", _shown(report.batches.model_dump())),
    ]
    for name, shown in lines:
        console.print(Text(f"  {name:<10} {shown}"), soft_wrap=True)
    console.print(f"  seconds    {report.seconds:.1f}")
    if report.nodes.produced:
        console.print("  no vector store: the nodes are the product, read by job.nodes() in Python")
    if report.documents.failed:
        console.print(Text(f"  see why: docmill failures {report.job_id}", style="yellow"))


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count or what in _ALWAYS_SHOWN)


def _shown_tokens(tokens: TokenCounts) -> str:
    """The counts, and how much of them is an estimate."""
    shown = _shown(tokens.model_dump(include={"embedding", "prompt", "completion", "cached"}))
    if not tokens.estimated:
        return shown
    is_whole = tokens.estimated == tokens.embedding + tokens.prompt + tokens.completion
    return f"{shown} (estimated)" if is_whole else f"{shown} ({tokens.estimated:,} of them estimated)"


_ALWAYS_SHOWN = {"seen", "upserted", "hits", "total"}
