"""`docmill cache stats`, `cache clear`: what the ingestion cache holds, and forgetting it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson

if TYPE_CHECKING:
    from orchestrator.connections import Connections
    from workers.caches import CacheBackend

__all__ = ["register"]

CacheCollection = Annotated[
    str | None, typer.Option("--collection", "-c", help="One cache collection.  [default: all]", show_default=False)
]

cache = typer.Typer(help="The ingestion cache.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(cache, name="cache")


@cache.command()
def stats(collection: CacheCollection = None, as_json: AsJson = False) -> None:
    """Show what the cache holds, and how often jobs found what they looked for."""
    from orchestrator.cli.show import print_json, print_table
    from orchestrator.contracts.addresses import redacted
    from orchestrator.contracts.report import CacheCounts
    from orchestrator.ledger.cache_counts import cache_counts
    from orchestrator.ledger.engine import begin
    from workers.caches import CacheSize

    with _opened() as (backend, connections):
        address = redacted(connections.settings.cache_address)
        sizes = backend.sizes()
        with begin(connections.engine) as connection:
            counts = cache_counts(connection)
    shown = [
        {
            "collection": name,
            **sizes.get(name, CacheSize(0, 0))._asdict(),
            **counts.get(name, CacheCounts()).model_dump(),
        }
        for name in ([collection] if collection else sorted(sizes.keys() | counts.keys()))
    ]
    if as_json:
        print_json({"address": address, "collections": shown})
        return
    columns = ("collection", "entries", "bytes", "hits", "misses")
    print_table(None, columns, [[_grouped(row[column]) for column in columns] for row in shown])
    typer.echo(f"in {address}; hits and misses are of all jobs in the ledger", err=True)


@cache.command()
def clear(collection: CacheCollection = None, as_json: AsJson = False) -> None:
    """Forget what the cache holds: what is ingested next is worked out, and paid for, again."""
    from orchestrator.cli.show import print_json

    with _opened() as (backend, _):
        count = backend.clear(collection)
    if as_json:
        print_json({"collection": collection, "entries": count})
    else:
        typer.echo(f"{count:,} entries of {f'cache collection {collection}' if collection else 'the cache'} forgotten")


@contextmanager
def _opened() -> "Iterator[tuple[CacheBackend, Connections]]":
    """The cache of this deployment, which must be one that a command can see."""
    from orchestrator.contracts.addresses import cache_kind
    from orchestrator.contracts.errors import ConfigurationError
    from orchestrator.runtime import Runtime
    from orchestrator.settings import load_settings
    from workers.caches import open_cache

    with Runtime(load_settings()) as runtime:
        settings = runtime.settings
        if cache_kind(settings.cache_address) == "memory":
            raise ConfigurationError(
                "DOCMILL_CACHE_URL=memory://: the cache is in the memory of each worker process, where no command sees "
                "it; it is forgotten when the worker stops"
            )
        backend = open_cache(settings.cache_address, ttl_seconds=settings.cache_ttl, max_bytes=settings.cache_bytes)
        try:
            yield backend, runtime.connections
        finally:
            backend.close()


def _grouped(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
