"""A pipeline file: TOML with the words of the Python API.

name = "handbook"
vector_store = "pgvector"
docstore_strategy = "upserts"

[[transformations]]
name = "sentence_splitter"
chunk_size = 512
chunk_overlap = 64

[[transformations]]
name = "embed"
embedder = "wordllama"
"""

import tomllib
from pathlib import Path
from typing import Any

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.spec import TransformationSpec

__all__ = ["NO_STORE", "read_pipeline_file"]

NO_STORE = "none"  # TOML has no null
_ALLOWED = (
    "name",
    "collection",
    "vector_store",
    "docstore_strategy",
    "cache_collection",
    "disable_cache",
    "token_budget",
    "transformations",
)


def read_pipeline_file(path: Path) -> dict[str, Any]:
    """The arguments of `IngestionPipeline` that a file gives.

    Raises:
        ConfigurationError: the file cannot be read, or says something that is not allowed.
        UnknownName: it names a transformation that nobody registered.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"pipeline file {str(path)!r} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"pipeline file {str(path)!r} is not TOML: {error}") from error
    unknown = sorted(found.keys() - set(_ALLOWED))
    if unknown:
        raise ConfigurationError(f"pipeline file {str(path)!r} has {unknown}; allowed are {', '.join(_ALLOWED)}")
    if not isinstance(found.get("disable_cache", False), bool):
        raise ConfigurationError(
            f"pipeline file {str(path)!r}: disable_cache is {found['disable_cache']!r}; allowed are true and false"
        )
    arguments = {"name": path.stem, **found}
    if "transformations" in found:
        arguments["transformations"] = [_spec(path, table) for table in found["transformations"]]
    return arguments


def _spec(path: Path, table: dict[str, Any]) -> TransformationSpec:
    from workers.transformations.contract import build, transformation_class

    parameters = dict(table)
    name = parameters.pop("name", None)
    if not isinstance(name, str):
        raise ConfigurationError(f"pipeline file {str(path)!r}: every [[transformations]] needs a name")
    return build(transformation_class(name), parameters).spec()
