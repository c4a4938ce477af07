"""Files as documents: named by their place below the root, listed in a stable order, and never walked in a circle."""

import os
from pathlib import Path

import pytest

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.reader import FileReader


def _write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")


def _ids(*paths: str | Path) -> list[str]:
    return [document.id for document in FileReader(*paths)]


def test_id_is_the_posix_path_below_the_root(tmp_path: Path) -> None:
    """A file is named by its path relative to the root, which is its source too; its uri leads to it."""
    _write(tmp_path, "docs/guide/a b.md")
    (document,) = FileReader(tmp_path / "docs")
    assert document.id == "guide/a b.md"
    assert document.metadata == {"source": "guide/a b.md"}
    assert document.path is not None
    assert Path(document.path).read_text(encoding="utf-8") == "docs/guide/a b.md"


@pytest.mark.parametrize("root", [".", "docs", "docs/", "./docs/../docs", "docs/guide"])
def test_relative_roots_give_the_same_names_as_absolute_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    """How the root is written does not change the names below it."""
    _write(tmp_path, "docs/guide/a.md", "docs/b.md")
    monkeypatch.chdir(tmp_path)
    assert _ids(root) == _ids((tmp_path / root).resolve())
    assert all(document.path is not None and Path(document.path).exists() for document in FileReader(root))


def test_order_is_stable_and_sorted_by_folder(tmp_path: Path) -> None:
    """Files come sorted within their folder, the same at every walk."""
    _write(tmp_path, "b.md", "a/2.md", "a/10.md", "c/x.md", "B.md", "a.md")
    assert _ids(tmp_path) == ["B.md", "a/10.md", "a/2.md", "a.md", "b.md", "c/x.md"]
    reader = FileReader(tmp_path)
    assert list(reader) == list(reader)


def test_names_that_begin_with_a_dot_are_left_out(tmp_path: Path) -> None:
    """Hidden files, and all in hidden folders, are no documents; a root may be hidden."""
    _write(tmp_path, ".hidden.md", ".git/config", "a/.env", "a/shown.md", ".root/b.md")
    assert _ids(tmp_path) == ["a/shown.md"]
    assert _ids(tmp_path / ".root") == ["b.md"]


def test_single_file_is_named_by_itself(tmp_path: Path) -> None:
    """A file that is given itself is named without its folder, even where it is hidden."""
    _write(tmp_path, "docs/a.md", "docs/.env")
    assert _ids(tmp_path / "docs" / "a.md", str(tmp_path / "docs" / ".env")) == ["a.md", ".env"]


def test_several_roots_come_one_after_another(tmp_path: Path) -> None:
    """Roots are read in the order they are given."""
    _write(tmp_path, "one/a.md", "two/b.md")
    assert _ids(tmp_path / "two", tmp_path / "one") == ["b.md", "a.md"]


@pytest.mark.parametrize("name", ["missing", "missing/below", "a.md/below", "x\x00y"])
def test_missing_path_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    """A path that is not there is refused before anything is read."""
    _write(tmp_path, "a.md")
    with pytest.raises(ConfigurationError, match="does not exist"):
        FileReader(tmp_path, tmp_path / name)


def test_empty_folder_has_no_documents(tmp_path: Path) -> None:
    """A folder without files, and folders in it without files, list nothing."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert _ids(tmp_path) == []


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    """A link to a folder, to the root itself or to nothing below it, is not walked."""
    _write(tmp_path, "docs/a.md", "elsewhere/b.md")
    (tmp_path / "docs" / "around").symlink_to(tmp_path / "docs")
    (tmp_path / "docs" / "out").symlink_to(tmp_path / "elsewhere")
    assert _ids(tmp_path / "docs") == ["a.md"]


def test_link_to_a_file_counts_only_below_the_root(tmp_path: Path) -> None:
    """A link to a file below the root is a file; one that leads out of it is left out: a tree cannot borrow secrets."""
    _write(tmp_path, "docs/deep/a.md", "secret.md", "docs-too/b.md")
    (tmp_path / "docs" / "inside.md").symlink_to("deep/a.md")
    (tmp_path / "docs" / "outside.md").symlink_to(tmp_path / "secret.md")
    (tmp_path / "docs" / "neighbour.md").symlink_to("../docs-too/b.md")
    assert _ids(tmp_path / "docs") == ["deep/a.md", "inside.md"]


def test_root_may_be_a_link(tmp_path: Path) -> None:
    """A folder or a file that is given by a link is read as if it were given by its own path."""
    _write(tmp_path, "docs/a.md")
    (tmp_path / "docs" / "b.md").symlink_to("a.md")
    (tmp_path / "link").symlink_to("docs")
    (tmp_path / "file.md").symlink_to("docs/a.md")
    assert _ids(tmp_path / "link") == ["a.md", "b.md"]
    assert _ids(tmp_path / "file.md") == ["file.md"]


def test_what_cannot_be_read_is_listed_all_the_same(tmp_path: Path) -> None:
    """A link to itself, one to nothing, and a pipe are listed without waiting; reading says what is wrong."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    assert _ids(tmp_path) == ["dangling", "loop", "one", "pipe", "two"]


def test_names_that_are_not_unicode_are_listed(tmp_path: Path) -> None:
    """A file whose name is not UTF-8 is listed, and can be opened by its uri."""
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("coffee", encoding="utf-8")
    (document,) = FileReader(tmp_path)
    assert document.id == "caf\udce9.md"
    assert document.path is not None
    assert Path(document.path).read_text(encoding="utf-8") == "coffee"


def test_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    """A folder that vanishes while its tree is walked is an error: half a listing would look like deletions."""
    _write(tmp_path, "a.md", "z/b.md")
    documents = iter(FileReader(tmp_path))
    assert next(documents).id == "a.md"
    (tmp_path / "z" / "b.md").unlink()
    (tmp_path / "z").rmdir()
    with pytest.raises(FileNotFoundError):
        list(documents)


@pytest.mark.parametrize("second", ["two", "two/a.md"])
def test_two_files_of_one_id_are_refused(tmp_path: Path, second: str) -> None:
    """Where two roots hold different files of one id, the error names both, before anything is read."""
    _write(tmp_path, "one/a.md", "one/first.md", "two/a.md")
    documents = iter(FileReader(tmp_path / "one", tmp_path / second))
    with pytest.raises(ConfigurationError) as caught:
        next(documents)
    for said in (str(tmp_path / "one" / "a.md"), str(tmp_path / "two" / "a.md"), "document 'a.md'", "two collections"):
        assert said in str(caught.value)


def test_one_file_by_two_ways_is_one_document(tmp_path: Path) -> None:
    """Roots that lead to the same file, or list other names, do not get into each other's way."""
    _write(tmp_path, "one/a.md", "one/.b.md", "two/b.md", "two/.b.md")
    assert _ids(tmp_path / "one", tmp_path / "one" / "a.md", tmp_path / "one") == ["a.md"] * 3
    assert _ids(tmp_path / "one", tmp_path / "two") == ["a.md", "b.md"]
    assert _ids(tmp_path / "one", tmp_path / "two" / ".b.md") == ["a.md", ".b.md"]
