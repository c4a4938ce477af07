"""Embedders by name, one instance a process."""

from pathlib import Path
from threading import Lock

from orchestrator.contracts.errors import ConfigurationError, UnknownName
from orchestrator.settings import load_settings
from workers.embedders.contract import Embedder

__all__ = ["check_embedder_name", "embedder_name", "get_embedder"]

_KNOWN = ("hashed", "hashed/<dimension>", "onnx/<folder of the model>", "wordllama")
_MAX_HASHED_DIMENSION = 16_000  # what pgvector can store

_embedders: dict[tuple[str, Path | None], Embedder] = {}
_lock = Lock()


def get_embedder(name: str, models_path: Path | None = None) -> Embedder:
    """The embedder of that name; the same instance each time within one process.

    Args:
        name: `wordllama`, `onnx/<folder of the model>`, or for tests `hashed` and `hashed/<dimension>`.
        models_path: holds the folders of ONNX models; the setting of that name if not given.

    Raises:
        UnknownName: no embedder has that name.
        ConfigurationError: the model's folder is not named properly, not set or not complete.
    """
    with _lock:
        key = (name, models_path)
        if key not in _embedders:
            _embedders[key] = _build(name, models_path)
        return _embedders[key]


def check_embedder_name(name: str) -> None:
    """Refuse a name that no embedder could have, without loading one.

    Raises:
        UnknownName: the message lists the names there are.
    """
    kind, slash, _ = name.partition("/")
    if not (name in ("wordllama", "hashed") or (kind in ("hashed", "onnx") and slash)):
        raise UnknownName("embedder", name, _KNOWN)


def embedder_name(model: str) -> str:
    """The name by which `get_embedder` makes a model: the inverse of an embedder's `model`."""
    kind = model.partition("/")[0]
    return kind if kind == "wordllama" else model.partition("@")[0]


def _build(name: str, models_path: Path | None) -> Embedder:
    kind, slash, detail = name.partition("/")
    if name == "wordllama":
        from workers.embedders.wordllama import WordLlamaEmbedder

        return WordLlamaEmbedder()
    if kind == "hashed":
        from workers.embedders.hashed import HashedEmbedder

        return HashedEmbedder(_hashed_dimension(name, detail)) if slash else HashedEmbedder()
    if kind == "onnx" and slash:
        from workers.embedders.onnx import OnnxEmbedder

        return OnnxEmbedder(_model_folder(detail, models_path))
    raise UnknownName("embedder", name, _KNOWN)


def _hashed_dimension(name: str, detail: str) -> int:
    dimension = int(detail) if detail.isascii() and detail.isdigit() else 0
    if not 1 <= dimension <= _MAX_HASHED_DIMENSION:
        raise ConfigurationError(
            f"embedder {name!r}: a dimension is a whole number from 1 to {_MAX_HASHED_DIMENSION}, not {detail!r}"
        )
    return dimension


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
