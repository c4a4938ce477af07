"""`docmill search`: the nodes nearest to a question."""

from typing import Annotated

import typer

from orchestrator.cli.options import DEFAULT_COLLECTION, AsJson, CollectionName

__all__ = ["register"]

_SNIPPET_CHARACTERS = 300


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(search)


def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question, or words.")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Nodes to show.")] = 5,
    collection: CollectionName = DEFAULT_COLLECTION,
    as_json: AsJson = False,
) -> None:
    """Search a collection."""
    from dataclasses import asdict

    from orchestrator.cli.show import print_json
    from orchestrator.runtime import Runtime
    from orchestrator.settings import load_settings
    from workers.search import search as find

    with Runtime(load_settings()) as runtime:
        matches = find(runtime.connections.engine, runtime.settings, query, collection=collection, k=k)
    if as_json:
        print_json({"collection": collection, "query": query, "matches": [asdict(match) for match in matches]})
        return
    if not matches:
        typer.echo(f"nothing found: collection {collection!r} is empty", err=True)
        return
    for place, match in enumerate(matches, start=1):
        typer.echo(typer.style(f"{place}. {match.document_id}", bold=True) + f"  {match.score:.3f}")
        text = " ".join(match.text.split())
        typer.echo(f"   {text[:_SNIPPET_CHARACTERS]}{'…' if len(text) > _SNIPPET_CHARACTERS else ''}")
