"""`docmill ingest`: files in; split, embedded, deduplicated nodes out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import DEFAULT_COLLECTION, AsJson

if TYPE_CHECKING:
    from orchestrator.settings import Settings

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(ingest)


def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Folders or files.", show_default=False)],
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Nodes that are searched together.  [default: documents]")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="upserts, duplicates_only or upserts_and_delete.  [default: upserts]", show_default=False),
    ] = None,
    chunk_size: Annotated[int | None, typer.Option(help="Tokens a node at most.", show_default=False)] = None,
    chunk_overlap: Annotated[
        int | None, typer.Option(help="Tokens that neighbouring nodes share.", show_default=False)
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(help="wordllama, or onnx/FOLDER below DOCMILL_MODELS_PATH.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Worker processes to run for this command.  [embedded: one a core]"),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the job's end, or leave it to workers.")] = (
        True
    ),
    pipeline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A pipeline in TOML.", show_default=False)
    ] = None,
    priority: Annotated[str, typer.Option(help="high, normal or low: whose batches workers take first.")] = "normal",
    token_budget: Annotated[
        int | None, typer.Option(help="Tokens that the job may spend.  [default: no limit]", show_default=False)
    ] = None,
    allow_mass_delete: Annotated[
        bool, typer.Option("--allow-mass-delete", help="Let most of a collection vanish with its files.")
    ] = False,
    scope: Annotated[
        str,
        typer.Option(metavar="PREFIX", help="Only documents whose id begins so may vanish.", show_default=False),
    ] = "",
    vector_store: Annotated[
        str | None,
        typer.Option(help="pgvector or sqlite; none: the nodes are the product.", show_default=False),
    ] = None,
    cache_collection: Annotated[
        str | None,
        typer.Option(help="Entries of the cache that are found, and cleared, together.", show_default=False),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither look into the ingestion cache nor fill it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ingest files; unchanged ones cost nothing."""
    from orchestrator.cli.show import print_json, print_report, report_object
    from orchestrator.cli.waiting import exit_code, wait_for
    from orchestrator.pipeline import IngestionPipeline
    from orchestrator.progress_display import shown_progress
    from orchestrator.reader import FileReader
    from orchestrator.runtime import Runtime
    from orchestrator.settings import load_settings

    given = {"chunk_size": chunk_size, "chunk_overlap": chunk_overlap, "embedder": embedder}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    _load_modules(settings)
    arguments = _pipeline_arguments(
        pipeline,
        given,
        collection=collection,
        docstore_strategy=strategy,
        vector_store=vector_store,
        cache_collection=cache_collection,
        disable_cache=True if no_cache else None,
        token_budget=token_budget,
    )
    source = FileReader(*paths)
    IngestionPipeline(**arguments, settings=settings)  # what is wrong with it is said before anything is started
    with Runtime(settings, workers=workers if wait else workers or 0) as runtime:
        ours = IngestionPipeline(**arguments, settings=settings, connections=runtime.connections)
        with shown_progress(is_shown=wait and not as_json) as show:
            job = ours.enqueue(
                source, scope=scope, allow_mass_delete=allow_mass_delete, priority=priority, on_progress=show
            )
        if not wait:
            print_json({"job_id": job.id}) if as_json else typer.echo(job.id)
            return
        report = wait_for(job, is_shown=not as_json)
        # Before the services stop: that takes a moment, or longer where a search index is being built.
        print_json(report_object(report)) if as_json else print_report(report)
    raise typer.Exit(exit_code([report.state]))


def _load_modules(settings: "Settings") -> None:
    """Load the user's own transformations here too: what is wrong with them is said now, not by a worker's log."""
    from orchestrator.contracts.registered import load_modules

    load_modules(settings.modules)


def _pipeline_arguments(file: Path | None, given: dict[str, Any], **overruling: str | int | None) -> dict[str, Any]:
    """What `IngestionPipeline` is made with: the file's words, and over them those of the command line."""
    from orchestrator.cli.pipeline_file import NO_STORE, read_pipeline_file
    from orchestrator.contracts.errors import ConfigurationError

    arguments: dict[str, Any] = {"name": DEFAULT_COLLECTION}
    if file is not None:
        arguments = read_pipeline_file(file)
        clashing = [name for name, value in given.items() if value is not None]
        if clashing and "transformations" in arguments:
            raise ConfigurationError(
                f"{', '.join(clashing)} given twice: on the command line and in {str(file)!r}; keep one of them"
            )
    arguments |= {name: value for name, value in overruling.items() if value is not None}
    if arguments.get("vector_store") == NO_STORE:
        arguments["vector_store"] = None
    return arguments
