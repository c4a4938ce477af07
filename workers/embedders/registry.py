"""Embedders by name, one instance a process."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from orchestrator.contracts.errors import ConfigurationError, UnknownName
from orchestrator.settings import load_settings
from workers.embedders.contract import Embedder

if TYPE_CHECKING:
    from workers.providers.openai import OpenAIServer

__all__ = ["check_embedder_name", "embedder_name", "get_embedder"]

_KNOWN = (
    "constant/<dimension>",
    "hashed",
    "hashed/<dimension>",
    "llama_index/<class> {<its state as JSON>}",
    "onnx/<folder of the model>",
    "openai/<model>",
    "openai/<model>@<dimensions>",
    "wordllama",
)
_MAX_DIMENSION = 16_000  # what pgvector can store

_embedders: dict[tuple[str, Path | None, OpenAIServer | None], Embedder] = {}
_lock = Lock()


def get_embedder(name: str, models_path: Path | None = None) -> Embedder:
    """The embedder of that name; the same instance each time within one process, while its settings stay.

    Args:
        name: `wordllama`, `onnx/<folder of the model>`, `openai/<model>`, `openai/<model>@<dimensions>`, the label of a
            LlamaIndex component, or for tests `hashed`, `hashed/<dimension>` and `constant/<dimension>`.
        models_path: holds the folders of ONNX models; the setting of that name if not given.

    Raises:
        UnknownName: no embedder has that name.
        ConfigurationError: the model's folder is not named properly, not set or not complete; or a setting of the
            model's server is wrong or missing.
    """
    with _lock:
        server = _server(name)
        key = (name, models_path, server)
        if key not in _embedders:
            _embedders[key] = _build(name, models_path, server)
        return _embedders[key]


def check_embedder_name(name: str) -> None:
    """Refuse a name that no embedder could have, without loading one.

    Raises:
        UnknownName: the message lists the names there are.
        ConfigurationError: the dimensions in the name are out of range.
    """
    kind, slash, detail = name.partition("/")
    if kind == "openai":
        _model_and_dimension(name, detail)
    elif kind == "llama_index":
        from workers.embedders.llama_index import LlamaIndexEmbedder

        LlamaIndexEmbedder(name)
    elif kind in ("constant", "hashed") and slash:
        _dimension(name, detail)
    elif not (name in ("wordllama", "hashed") or (kind == "onnx" and slash)):
        raise UnknownName("embedder", name, _KNOWN)


def embedder_name(model: str) -> str:
    """The name by which `get_embedder` makes a model: the inverse of an embedder's `model`."""
    kind = model.partition("/")[0]
    if kind in ("openai", "llama_index"):
        return model  # what stands behind its @ is asked for
    return kind if kind == "wordllama" else model.partition("@")[0]


def _server(name: str) -> OpenAIServer | None:
    if not name.startswith("openai/"):
        return None
    from workers.providers.openai import process_server

    return process_server()


def _build(name: str, models_path: Path | None, server: OpenAIServer | None) -> Embedder:
    kind, slash, detail = name.partition("/")
    if name == "wordllama":
        from workers.embedders.wordllama import WordLlamaEmbedder

        return WordLlamaEmbedder()
    if kind == "hashed":
        from workers.embedders.hashed import HashedEmbedder

        return HashedEmbedder(_dimension(name, detail)) if slash else HashedEmbedder()
    if kind == "constant" and slash:
        from workers.embedders.constant import ConstantEmbedder

        return ConstantEmbedder(_dimension(name, detail))
    if kind == "onnx" and slash:
        from workers.embedders.onnx import OnnxEmbedder

        return OnnxEmbedder(_model_folder(detail, models_path))
    if server is not None:
        from workers.embedders.openai import OpenAIEmbedder

        model, dimension = _model_and_dimension(name, detail)
        return OpenAIEmbedder(model, server, dimension)
    if kind == "llama_index":
        from workers.embedders.llama_index import LlamaIndexEmbedder

        return LlamaIndexEmbedder(name)
    raise UnknownName("embedder", name, _KNOWN)


def _dimension(name: str, text: str) -> int:
    dimension = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= dimension <= _MAX_DIMENSION:
        raise ConfigurationError(
            f"embedder {name!r}: a dimension is a whole number from 1 to {_MAX_DIMENSION}, not {text!r}"
        )
    return dimension


def _model_and_dimension(name: str, detail: str) -> tuple[str, int | None]:
    model, at, dimension = detail.partition("@")
    if not model:
        raise UnknownName("embedder", name, _KNOWN)
    return model, _dimension(name, dimension) if at else None


def _model_folder(folder: str, models_path: Path | None) -> Path:
    if folder in ("", ".", "..") or set(folder) & set("/\\\0"):
        raise ConfigurationError(
            f"embedder 'onnx/{folder}': the model is named by its folder alone, without slashes or dots before it"
        )
    home = models_path or load_settings().models_path
    if home is None:
        raise ConfigurationError(
            f"embedder 'onnx/{folder}' needs a folder of models: set DOCMILL_MODELS_PATH to the folder that holds "
            f"{folder}/model.onnx and {folder}/tokenizer.json"
        )
    return home / folder
