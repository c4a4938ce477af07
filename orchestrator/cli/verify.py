"""`docmill verify`: does the vector store hold what the ledger says?"""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import AsJson

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from orchestrator.settings import Settings
    from workers.verify import Difference, Verification

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(verify)


@dataclass(slots=True)
class _Finding:
    """What was found in one collection."""

    verification: "Verification"
    counts: Counter[str] = field(default_factory=Counter)  # of differences by kind
    repairs: Counter[str] = field(default_factory=Counter)  # of differences by what was done
    shown: "list[Difference]" = field(default_factory=list)
    wrong_model: str | None = None
    model_unchecked: str | None = None  # why the model could not be looked at
    nodes_unchecked: str | None = None  # why the nodes could not be

    @property
    def is_clean(self) -> bool:
        """Nothing is left to be mended."""
        is_mended = self.counts.total() == self.repairs["removed"]
        return is_mended and not (self.wrong_model or self.nodes_unchecked)


def verify(
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="The one to look at.  [default: all]", show_default=False)
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Remove orphaned nodes; let the next ingestion do the other documents again."),
    ] = False,
    limit: Annotated[int, typer.Option("-n", min=1, max=100_000, help="Differences to list a collection.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Compare ledger and vector store node by node. Exit code 1 if something differs and was not mended."""
    from orchestrator.cli.show import print_json
    from orchestrator.runtime import Runtime
    from orchestrator.settings import load_settings

    with Runtime(load_settings()) as runtime:
        engine = runtime.connections.engine
        names = _collections(engine) if collection is None else [collection]
        findings = []
        for name in names:
            findings.append(_look(engine, runtime.settings, name, repair, limit))
            if not as_json:
                _show(findings[-1])
    is_clean = all(finding.is_clean for finding in findings)
    if as_json:
        print_json({"clean": is_clean, "collections": [_as_object(finding) for finding in findings]})
    elif not findings:
        typer.echo("there are no collections", err=True)
    raise typer.Exit(0 if is_clean else 1)


def _collections(engine: "Engine") -> list[str]:
    """Those that have a vector store."""
    from orchestrator.ledger.audit import collection_names, latest_spec
    from orchestrator.ledger.engine import begin

    with begin(engine) as connection:
        specs = {name: latest_spec(connection, name) for name in collection_names(connection)}
    return [name for name, spec in specs.items() if spec is None or spec.vector_store is not None]


def _look(engine: "Engine", settings: "Settings", name: str, repair: bool, limit: int) -> _Finding:
    from orchestrator.contracts.errors import ConfigurationError
    from workers.verify import Verification

    finding = _Finding(Verification(engine, settings, name))
    try:
        finding.wrong_model = finding.verification.wrong_model()
    except ConfigurationError as error:
        finding.model_unchecked = str(error)
    try:
        for difference in finding.verification.differences(repair=repair):
            finding.counts[difference.kind] += 1
            finding.repairs[difference.repair] += 1
            if len(finding.shown) < limit:
                finding.shown.append(difference)
    except ConfigurationError as error:
        finding.nodes_unchecked = str(error)
    return finding


def _as_object(finding: _Finding) -> dict[str, Any]:
    from dataclasses import asdict

    from workers.verify import DifferenceKind

    seen = finding.verification
    return {
        "collection": seen.collection,
        "vector_store": seen.vector_store,
        "clean": finding.is_clean,
        "documents": seen.documents,
        "nodes": seen.nodes,
        **{kind: finding.counts[kind] for kind in DifferenceKind},
        "removed": finding.repairs["removed"],
        "to_ingest": finding.repairs["to ingest"],
        "wrong_model": finding.wrong_model,
        "model_unchecked": finding.model_unchecked,
        "nodes_unchecked": finding.nodes_unchecked,
        "jobs_at_work": seen.jobs_at_work,
        "differences": [asdict(difference) for difference in finding.shown],
    }


def _show(finding: _Finding) -> None:
    from orchestrator.cli.show import print_table

    seen = finding.verification
    found = [f"{count:,} {kind}" for kind, count in sorted(finding.counts.items())]
    found += ["wrong model"] if finding.wrong_model else []
    found += ["not compared"] if finding.nodes_unchecked else []
    typer.echo(
        f"{seen.collection} ({seen.vector_store}): {seen.documents:,} documents, {seen.nodes:,} nodes: "
        + (", ".join(found) or "clean")
    )
    if finding.shown:
        print_table(
            None,
            ("document", "kind", "nodes expected", "found", "repair"),
            [(each.document_id, each.kind, each.expected, each.found, each.repair) for each in finding.shown],
        )
    for line in _advice(finding):
        typer.echo(f"  {line}", err=True)


def _advice(finding: _Finding) -> list[str]:
    """What the reader must know, or do next."""
    hidden = finding.counts.total() - len(finding.shown)
    repairs = finding.repairs
    lines = [f"{hidden:,} more are not listed: -n shows more"] if hidden else []
    if finding.wrong_model:
        lines.append(f"{finding.wrong_model}: ingest with the model it was made with, or into another collection")
    if finding.model_unchecked:
        lines.append(f"its model was not checked: {finding.model_unchecked}")
    if finding.nodes_unchecked:
        lines.append(f"its nodes were not compared: {finding.nodes_unchecked}")
    if finding.verification.jobs_at_work:
        at_work = ", ".join(finding.verification.jobs_at_work)
        lines.append(f"job {at_work} is at work on it, and may mend by itself what it has not committed yet")
    if repairs["removed"]:
        lines.append(f"the nodes of {repairs['removed']:,} documents were removed")
    if repairs["to ingest"]:
        lines.append(
            f"{repairs['to ingest']:,} documents wait to be done again: ingest their source, then verify once more"
        )
    if repairs["none"]:
        lines.append("to mend: docmill verify --repair, then ingest the source")
    return lines
