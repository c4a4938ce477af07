"""Dedupe on a real ledger: each document is new, changed or unchanged, and files are read only if they must be."""

import os
from pathlib import Path

import pytest

from orchestrator import dedupe as dedupe_module
from orchestrator.contracts.documents import Document
from orchestrator.reader import FileReader
from tests.ingestions import Run, ingested, text_document
from tests.ledgers import Ledger, pipeline_spec

pytestmark = pytest.mark.integration


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old enough for their stamps to be trusted as soon as they are written."""
    monkeypatch.setattr(dedupe_module, "_TRUSTED_AGE_NS", -1)


def test_new_changed_and_unchanged_are_told_apart(ledger: Ledger) -> None:
    """A document that the ledger does not know is new, one that says something else is changed, no other is."""
    ingested(
        ledger,
        text_document("same", "one"),
        text_document("edited", "two"),
        text_document("tagged", "three", tag="old"),
    )
    run = Run(ledger)
    tally = run.take(
        text_document("same", "one"),
        text_document("edited", "two!"),
        text_document("tagged", "three", tag="new"),
        text_document("new", "four"),
    )
    assert [(document.id, document.is_new) for document in run.survivors] == [
        ("edited", False),
        ("tagged", False),
        ("new", True),
    ]
    assert (tally.unchanged, tally.duplicate, tally.failures) == (1, 0, [])
    assert tally.listed == ["same", "edited", "tagged", "new"]


def test_order_of_metadata_changes_nothing(ledger: Ledger) -> None:
    """Equal metadata in another order is the same document."""
    ingested(ledger, text_document("a", "one", x=1, y=2))
    assert Run(ledger).take(text_document("a", "one", y=2, x=1)).unchanged == 1


def test_slice_is_asked_for_in_one_query(ledger: Ledger) -> None:
    """A thousand documents are compared with the ledger in one statement."""
    run = Run(ledger)
    with ledger.statements() as sent:
        assert (
            len(list(run.dedupe.survivors(list(enumerate(text_document(f"d{i}", f"text {i}") for i in range(1000))))))
            == 1000
        )
    assert len(sent) == 1


def test_other_fingerprint_makes_a_document_changed(ledger: Ledger) -> None:
    """Documents made by other transformations are made again, texts and files alike."""
    ingested(ledger, text_document("a", "one"))
    run = Run(ledger, pipeline_spec(chunk_size=256))
    assert run.take(text_document("a", "one")).unchanged == 0
    assert run.ids == ["a"]


def test_other_collection_knows_nothing(ledger: Ledger) -> None:
    """What one collection has is new to another."""
    ingested(ledger, text_document("a", "one"))
    run = Run(ledger, pipeline_spec("other"))
    run.take(text_document("a", "one"))
    assert [document.is_new for document in run.survivors] == [True]


def test_text_and_file_of_the_same_bytes_are_two_things(ledger: Ledger, tmp_path: Path) -> None:
    """A text is taken as it is and a file is parsed, so a document that turns from one to the other is changed."""
    (tmp_path / "a.html").write_text("<p>one</p>", encoding="utf-8")
    ingested(ledger, text_document("a.html", "<p>one</p>", source="a.html"))
    run = Run(ledger)
    run.take(*FileReader(tmp_path))
    assert run.ids == ["a.html"]
    assert not run.survivors[0].is_text


@pytest.mark.skipif(not Path("/proc/version").is_file(), reason="needs Linux' /proc")
def test_file_that_is_longer_than_it_says_is_read_to_its_end(ledger: Ledger) -> None:
    """A file that says that it has no bytes, as one that is being written may, is read to its end or the limit."""
    run = Run(ledger)
    tally = run.take(Document(id="version", uri="/proc/version"), Document(id="limits", uri="/proc/self/limits"))
    (survivor,) = run.survivors
    assert (survivor.id, survivor.stamp) == ("version", None)
    assert survivor.content == Path("/proc/version").read_bytes()
    (refused,) = tally.failures
    assert refused.message.startswith("it has 1001 bytes; allowed are 1000")


@pytest.mark.usefixtures("trusting")
def test_file_that_comes_in_parts_is_read_to_its_end(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that gives less than it is asked for is asked again, and the file is trusted as any other."""
    (tmp_path / "a.txt").write_text("one two three")
    read = os.read
    monkeypatch.setattr(os, "read", lambda file, size: read(file, min(size, 5)))
    run = Run(ledger)
    run.take(*FileReader(tmp_path))
    (document,) = run.survivors
    assert document.content == b"one two three"
    assert document.stamp is not None


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("as_uri", [False, True])
def test_unchanged_file_is_not_read(ledger: Ledger, tmp_path: Path, as_uri: bool) -> None:
    """A file whose stamp is that of the last commit is unchanged, even where its content would say otherwise."""
    (tmp_path / "a b.md").write_text("one", encoding="utf-8")
    (document,) = FileReader(tmp_path)
    if as_uri:
        document = Document(id=document.id, uri=(tmp_path / "a b.md").as_uri(), metadata=document.metadata)
    run = Run(ledger)
    run.take(document)
    # The ledger remembers another body under the file's stamp: whoever read the file would find it changed.
    read = run.survivors[0]
    other = Run(ledger)
    other.take(text_document("other", "other body", **document.metadata))
    body = other.survivors[0]
    run.commit([read._replace(content_hash=body.content_hash, body_hash=body.body_hash)])
    again = Run(ledger)
    assert again.take(document).unchanged == 1
    assert again.ids == []


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("times_kept", [False, True])
def test_edited_file_is_changed(ledger: Ledger, tmp_path: Path, times_kept: bool) -> None:
    """An edit is noticed, even one that keeps the size of the file and puts its time of modification back."""
    path = tmp_path / "a.md"
    path.write_text("one", encoding="utf-8")
    ingested(ledger, *FileReader(tmp_path))
    before = path.stat()
    path.write_text("two", encoding="utf-8")
    if times_kept:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    run = Run(ledger)
    run.take(*FileReader(tmp_path))
    assert [(document.id, document.content) for document in run.survivors] == [("a.md", b"two")]


@pytest.mark.usefixtures("trusting")
def test_metadata_of_an_unchanged_file_counts(ledger: Ledger, tmp_path: Path) -> None:
    """Other metadata makes a document changed, though its file is what it was."""
    (tmp_path / "a.md").write_text("one", encoding="utf-8")
    old, new = (Document(id="a", uri=str(tmp_path / "a.md"), metadata={"tag": tag}) for tag in ("old", "new"))
    ingested(ledger, old)
    run = Run(ledger)
    run.take(new)
    assert run.ids == ["a"]
    assert Run(ledger).take(old).unchanged == 1


@pytest.mark.usefixtures("trusting")
def test_touched_file_is_unchanged_and_its_stamp_is_refreshed(ledger: Ledger, tmp_path: Path) -> None:
    """A file that was only touched is read once, found unchanged, and not read at the next run."""
    path = tmp_path / "a.md"
    path.write_text("one", encoding="utf-8")
    ingested(ledger, *FileReader(tmp_path))
    before = ledger.documents()["a.md"]
    os.utime(path, ns=(1, 1))
    tally = Run(ledger).take(*FileReader(tmp_path))
    after = ledger.documents()["a.md"]
    assert (tally.unchanged, [id for id, _ in tally.stamps]) == (1, ["a.md"])
    assert after["stamp"] != before["stamp"]
    assert {**after, "stamp": None} == {**before, "stamp": None}
    assert Run(ledger).take(*FileReader(tmp_path)).stamps == []


def test_young_file_is_not_trusted(ledger: Ledger, tmp_path: Path) -> None:
    """A file that was just written gets no stamp: it could change again within the same tick of its clock."""
    (tmp_path / "a.md").write_text("one", encoding="utf-8")
    ingested(ledger, *FileReader(tmp_path))
    assert ledger.documents()["a.md"]["stamp"] is None
    run = Run(ledger)
    assert run.take(*FileReader(tmp_path)).unchanged == 1
    assert run.ids == []


def test_last_document_of_an_id_wins_in_a_slice(ledger: Ledger) -> None:
    """Of documents with one id the last counts, and the others are duplicates."""
    run = Run(ledger)
    tally = run.take(
        text_document("a", "one"), text_document("b", "two"), text_document("a", "three"), text_document("a", "four")
    )
    assert [(document.id, document.content) for document in run.survivors] == [("a", b"four"), ("b", b"two")]
    assert tally.duplicate == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_last_document_of_an_id_wins_across_slices(ledger: Ledger, order: tuple[int, int]) -> None:
    """The later of two slices wins, in whatever order their batches are committed."""
    run = Run(ledger)
    slices = []
    for text in ("first", "second"):
        run.take(text_document("a", text))
        slices.append(run.survivors)
    written = [run.commit(slices[index]) for index in order]
    assert ledger.documents()["a"]["content_hash"] == slices[1][0].content_hash
    assert written == ([{"a"}, {"a"}] if order == (0, 1) else [{"a"}, set()])


def test_unchanged_document_is_guarded_from_an_older_job(ledger: Ledger) -> None:
    """What a job finds unchanged stays so, though an older job that is still at work says otherwise."""
    ingested(ledger, text_document("a", "one"))
    older = Run(ledger)
    older.take(text_document("a", "two"))
    Run(ledger, has_rivals=True).take(text_document("a", "one"))
    assert older.commit() == set()


def test_unchanged_document_is_guarded_from_an_earlier_slice(ledger: Ledger) -> None:
    """Where a later slice brings an id back to what the ledger has, the earlier slice's edit does not win."""
    ingested(ledger, text_document("a", "one"))
    run = Run(ledger)
    run.take(text_document("a", "two"))
    edit = run.survivors
    assert run.take(text_document("a", "one")).unchanged == 1
    assert run.commit(edit) == set()
