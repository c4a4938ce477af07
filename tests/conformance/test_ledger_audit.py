"""The ledger's part in an audit: its documents as one sorted stream, and a hold that makes commits wait."""

import threading

import pytest

from orchestrator.contracts.report import JobState
from orchestrator.contracts.spec import DocstoreStrategy
from orchestrator.ledger import audit
from orchestrator.ledger.documents import DocumentRow, claim
from orchestrator.ledger.engine import begin
from tests.ledgers import Ledger, pipeline_spec, row

_IDS = ["", "A", "Z", "a", "b/a", "é", "\uffff", "\U0001d11e"]  # in the order of their code points


def test_documents_come_in_the_order_of_code_points(ledger: Ledger) -> None:
    """Ids are sorted as Python sorts them, whatever the database's locale, and other collections stay out."""
    ledger.write(*(row(id) for id in reversed(_IDS)))
    ledger.write(row("c"), collection="another")
    with audit.documents_of(ledger.engine, "handbook") as found:
        assert [document.id for document in found] == _IDS == sorted(_IDS)


def test_the_stream_is_of_the_moment_it_was_opened_and_keeps_no_writer_waiting(ledger: Ledger) -> None:
    """What is written while documents are streamed is written at once, and is not in the stream."""
    ledger.write(*(row(f"d{number:05}") for number in range(6000)))
    with audit.documents_of(ledger.engine, "handbook") as found:
        ledger.write(row("d05999", version=7), row("e"))
        streamed = list(found)
    assert len(streamed) == 6000
    assert streamed[-1] == audit.LedgerDocument("d05999", 1, 1, None, False)
    assert ledger.documents()["d05999"]["version"] == 7


def test_an_alias_is_lost_once_its_job_has_ended_without_the_first_document(ledger: Ledger) -> None:
    """A duplicate waits for its first document as long as the job is open, and is lost if it never came."""
    job = ledger.job(pipeline_spec(strategy=DocstoreStrategy.DUPLICATES_ONLY))
    ledger.write(row("kept"), row("fine", alias_of="kept"))
    with begin(ledger.engine) as connection:
        claim(connection, "handbook", "f", job.id, [row("lost", alias_of="never came")])

    def lost() -> list[str]:
        with audit.documents_of(ledger.engine, "handbook") as found:
            return [document.id for document in found if document.is_lost]

    assert lost() == []
    ledger.change_job(job.id, state=JobState.SUCCEEDED)
    assert lost() == ["lost"]


def test_documents_that_changed_are_not_held(ledger: Ledger) -> None:
    """Of the documents asked for, those come back that still have the version that was seen."""
    ledger.write(row("same", version=5), row("newer", version=6))
    assert ledger.call(audit.hold_unchanged, "handbook", {"same": 5, "newer": 5, "gone": 5}) == {"same"}


def test_forgotten_contents_are_new_to_the_next_ingestion(ledger: Ledger) -> None:
    """A document whose content is forgotten keeps its row and its version, without hash and stamp."""
    ledger.write(row("a", version=5), row("b"))
    ledger.call(audit.forget_contents, "handbook", ["a"])
    found = ledger.documents()
    assert (found["a"]["content_hash"], found["a"]["stamp"], found["a"]["version"]) == ("", None, 5)
    assert found["b"]["content_hash"] == "content of body"


def test_what_is_held_unknown_leaves_no_trace(ledger: Ledger) -> None:
    """Only ids without a row are held, and no row of theirs is ever seen."""
    ledger.write(row("known"))
    with begin(ledger.engine) as connection, audit.held_unknown(connection, "handbook", ["known", "x", "y"]) as held:
        assert held == {"x", "y"}
    assert list(ledger.documents()) == ["known"]


def test_a_commit_waits_for_who_holds_its_document_unknown(ledger: Ledger) -> None:
    """Nodes of an unknown document can be removed without racing a commit that is about to write them."""
    written = threading.Event()

    def commit() -> None:
        ledger.write(row("x", version=1 << 32))
        written.set()

    thread = threading.Thread(target=commit)
    with begin(ledger.engine) as connection, audit.held_unknown(connection, "handbook", ["x"]):
        thread.start()
        assert not written.wait(0.3)
    thread.join(30)
    assert written.is_set()
    assert ledger.documents()["x"]["version"] == 1 << 32


@pytest.mark.parametrize("is_refused", [True, False])
def test_the_latest_spec_is_that_of_a_job_that_was_not_refused(ledger: Ledger, is_refused: bool) -> None:
    """A job that failed says nothing of its collection, unless there is no other."""
    if is_refused:
        ledger.job(pipeline_spec(chunk_size=64), state=JobState.SUCCEEDED)
    ledger.job(pipeline_spec(chunk_size=128), state=JobState.FAILED)
    spec = ledger.call(audit.latest_spec, "handbook")
    assert spec is not None
    assert spec.transformations[0].parameters == {"chunk_size": 64 if is_refused else 128}
    assert ledger.call(audit.latest_spec, "another") is None


def test_collections_and_jobs_at_work_are_named(ledger: Ledger) -> None:
    """Every collection that a job or a document names is there, and the jobs that have not ended."""
    ledger.write(row("a"), collection="of-a-document")
    ended, open_ = ledger.job(state=JobState.SUCCEEDED), ledger.job(pipeline_spec("of-a-job"))
    assert ledger.call(audit.collection_names) == ["handbook", "of-a-document", "of-a-job"]
    assert ledger.call(audit.jobs_at_work, ended.collection) == []
    assert ledger.call(audit.jobs_at_work, "of-a-job") == [open_.id]


def test_a_commit_writes_the_hash_of_its_nodes(ledger: Ledger) -> None:
    """The hash comes with the row, and goes with it when a later commit has another."""
    ledger.write(row("a")._replace(nodes_hash="1" * 40))
    assert ledger.documents()["a"]["nodes_hash"] == "1" * 40
    ledger.write(DocumentRow("a", "c", "b", None, None, 2, 2, "2" * 40))
    assert ledger.documents()["a"]["nodes_hash"] == "2" * 40
