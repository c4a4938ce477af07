"""`docmill settings`: every setting, its value, where it came from, and what it means."""

from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.options import AsJson

if TYPE_CHECKING:
    from orchestrator.settings import Settings

__all__ = ["register"]

_ADDRESSES = frozenset({"database_url", "broker_url", "result_url", "cache_url"})


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(settings)


def settings(as_json: AsJson = False) -> None:
    """Show every setting, where its value came from, and what it means. Keys and passwords are hidden."""
    from orchestrator.cli.show import print_json, print_table
    from orchestrator.settings import load_settings

    rows = _rows(load_settings())
    if as_json:
        print_json({"settings": rows})
        return
    columns = ("name", "value", "source", "meaning")
    print_table(None, columns, [[_cell(row[column]) for column in columns] for row in rows])
    typer.echo(
        "each is set by a variable (chunk_size by DOCMILL_CHUNK_SIZE), or by its name in docmill.toml, or in the file "
        "that DOCMILL_SETTINGS_FILE names",
        err=True,
    )


def _rows(settings: "Settings") -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "variable": f"DOCMILL_{name.upper()}",
            "value": _value(settings, name),
            "source": _source(settings, name),
            "meaning": field.description,
        }
        for name, field in type(settings).model_fields.items()
    ]


def _value(settings: "Settings", name: str) -> Any:
    """The value as it may be shown; of an address that is not set, the one that is used in its place."""
    from pathlib import Path

    from pydantic import SecretStr

    from orchestrator.contracts.addresses import redacted

    in_place = {"result_url": settings.results_redis_url, "cache_url": settings.cache_address}
    value = getattr(settings, name) or in_place.get(name) or getattr(settings, name)
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else None
    if isinstance(value, str) and name.endswith("_url"):
        return redacted(value)
    if isinstance(value, Path):
        return str(value)
    return settings.model_dump(mode="json", include={name})[name] if isinstance(value, tuple) else value


def _source(settings: "Settings", name: str) -> str:
    from orchestrator.settings import source_of

    source = source_of(settings, name)
    return "embedded stack" if source == "default" and name in _ADDRESSES and settings.is_embedded else source


def _cell(value: Any) -> str:
    """A cell of the table: nothing for what is not set."""
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
