"""Corpora: a folder copied to where it may be edited, so that every subject reads the same bytes."""

from __future__ import annotations

import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

__all__ = ["Corpus", "copy_corpus", "grow_corpus", "standard_library"]

_SUFFIXES = frozenset({".py", ".md", ".rst", ".txt"})
# Other people's packages, and texts in encodings that are wrong on purpose.
_LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "__pycache__"})
_EDITED_EVERY = 100  # documents: 1 % of them
_SETTLED_SECONDS = 2.1  # docmill trusts the stamp of no file younger than 2 s


@dataclass(frozen=True, slots=True)
class Corpus:
    """Text files below a folder, all of them UTF-8 and none of them blank."""

    folder: Path
    documents: int
    size: int  # bytes

    def texts(self) -> dict[str, str]:
        """{id: text} as the files are now; an id is the path within the folder."""
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes().decode("utf-8") for path in _files(self.folder)
        }

    @property
    def edited_documents(self) -> int:
        """How many documents `edit` changes."""
        return len(range(0, self.documents, _EDITED_EVERY))

    def edit(self) -> dict[Path, bytes]:
        """Add a line to every hundredth document; returns what they said before, for `restore`."""
        before = {}
        for index, path in enumerate(_files(self.folder)):
            if index % _EDITED_EVERY == 0:
                before[path] = path.read_bytes()
                path.write_bytes(before[path] + f"\n\nEdited, and this is number {index}.\n".encode())
        self.settle()
        return before

    def restore(self, before: dict[Path, bytes]) -> None:
        """Undo an edit."""
        for path, content in before.items():
            path.write_bytes(content)
        self.settle()

    @staticmethod
    def settle() -> None:
        """Wait until the files are old enough for their stamps to be trusted."""
        time.sleep(_SETTLED_SECONDS)


def standard_library() -> Path:
    """Where the sources of Python's standard library are: a corpus that every machine has."""
    return Path(sysconfig.get_path("stdlib"))


def copy_corpus(source: Path, target: Path, *, max_bytes: int | None = None) -> Corpus:
    """Copy a folder's texts, in the order of their names, up to so many bytes.

    Raises:
        ValueError: there is no text in it.
    """
    documents = size = 0
    for path in _files(source):
        content = path.read_bytes()
        if max_bytes is not None and size + len(content) > max_bytes:
            continue
        if _is_text(content):
            _write(target / path.relative_to(source), content)
            documents, size = documents + 1, size + len(content)
    if not documents:
        raise ValueError(f"{source} holds no text in UTF-8 whose name ends with {', '.join(sorted(_SUFFIXES))}")
    Corpus.settle()
    return Corpus(target, documents, size)


def grow_corpus(source: Corpus, target: Path, documents: int) -> Corpus:
    """A corpus of so many documents: those of another, again and again, each time with other words in every paragraph,
    so that no cache knows them."""
    made = size = 0
    texts = source.texts()
    for generation in count():
        for name, text in texts.items():
            if made == documents:
                Corpus.settle()
                return Corpus(target, made, size)
            content = text.replace("\n\n", f"\n\n({generation}) ").encode()
            # A folder for a thousand: file systems and listings do not like a hundred thousand files in one.
            _write(target / str(made // 1000) / f"{made}{Path(name).suffix}", content)
            made, size = made + 1, size + len(content)
    raise AssertionError("generations do not end")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in _LEFT_OUT:
            continue
        if path.is_dir():
            if not path.is_symlink():
                yield from _files(path)
        elif path.suffix in _SUFFIXES and path.is_file():
            yield path


def _is_text(content: bytes) -> bool:
    if not content.strip():
        return False
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
