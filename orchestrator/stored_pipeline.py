"""A pipeline kept in a folder: its spec as JSON, written whole or not at all."""

from pathlib import Path

from pydantic import ValidationError

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.spec import PipelineSpec
from orchestrator.contracts.whole_file import write_whole

__all__ = ["FILE_NAME", "read_spec", "write_spec"]

FILE_NAME = "pipeline.json"


def write_spec(folder: Path, spec: PipelineSpec) -> Path:
    """Write a spec into a folder, which is made where it is missing; returns the file.

    Raises:
        OSError: it cannot be written; a file that was there is as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    write_whole(path, (spec.model_dump_json(indent=2) + "\n").encode())
    return path


def read_spec(folder: Path) -> PipelineSpec:
    """The spec in a folder.

    Raises:
        ConfigurationError: there is none, or it is damaged.
    """
    path = folder / FILE_NAME
    try:
        return PipelineSpec.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"no pipeline can be loaded from {str(path)!r}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{str(path)!r} holds no pipeline: {place or 'file'}: {first['msg']}") from error
