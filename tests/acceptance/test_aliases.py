"""Documents with equal content: nodes of one stand for all, and when they no longer do, another's take their place."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator import Document, JobState
from tests.deployment import Deployment, run_docmill
from tests.transformations import Picky, Slow
from workers.search import search

pytestmark = pytest.mark.acceptance

_SAME = "Everybody has 25 days of leave. " * 30


def _document(id: str, text: str = _SAME, **metadata: Any) -> Document:
    return Document(id=id, text=text, metadata={"of": id, **metadata})


def _owners(staffed: Deployment, collection: str) -> set[str]:
    """Documents that have nodes in search."""
    return {document for document, _ in staffed.nodes(collection)}


def _owners_of_same(staffed: Deployment, collection: str) -> set[str]:
    """Documents whose nodes are found by the words of the text they had in common."""
    found = search(staffed.connections.engine, staffed.settings, _SAME[:80], collection=collection, k=20)
    return {match.document_id for match in found if "25 days" in match.text}


def _is_clean(staffed: Deployment, collection: str) -> bool:
    """Whether `docmill verify` finds no difference between ledger and store."""
    settings = staffed.settings
    addresses = {"DATABASE": settings.database_url, "BROKER": settings.broker_url, "CACHE": settings.cache_url}
    environment = {f"DOCMILL_{name}_URL": str(url) for name, url in addresses.items()}
    done = run_docmill(["verify", "-c", collection, "--json"], {**environment, "DOCMILL_HOME": str(settings.home)})
    return done.returncode == 0


@pytest.mark.parametrize("strategy", ["duplicates_only", "upserts"])
def test_an_edited_first_document_leaves_its_content_to_the_second(staffed: Deployment, strategy: str) -> None:
    """When the first document says something else, the second is ingested in the same job, by whatever strategy."""
    name = f"edited-{strategy}"
    first = staffed.pipeline(name, strategy="duplicates_only")
    report = staffed.wait(first.enqueue([_document("a"), _document("b"), _document("c")]))
    assert (report.documents.new, report.documents.duplicate) == (1, 2)
    assert _owners(staffed, name) == {"a"}

    report = staffed.wait(staffed.pipeline(name, strategy=strategy).enqueue([_document("a", "Now I differ.")]))
    assert report.state is JobState.SUCCEEDED
    assert _owners(staffed, name) == {"a", "b"}
    assert staffed.documents(name) == {"a", "b", "c"}
    assert (report.documents.seen, report.documents.changed, report.documents.new) == (2, 1, 1)
    assert _is_clean(staffed, name)


@pytest.mark.parametrize("listed", [[], ["b", "c"]], ids=["alone", "with-its-aliases"])
def test_an_edited_first_document_never_takes_its_content_out_of_search(staffed: Deployment, listed: list[str]) -> None:
    """While a first document is replaced, what it said before is found at every moment: its heir's nodes come first."""
    name = f"always-there-{len(listed)}"
    pipeline = staffed.pipeline(name, Slow(seconds=1.0), strategy="duplicates_only")
    staffed.wait(pipeline.enqueue([_document("a"), _document("b"), _document("c")]))

    edited = [_document("a", "Now I differ. " * 1000), *map(_document, listed)]  # fills a batch of its own
    with ThreadPoolExecutor() as pool:
        run = pool.submit(lambda: staffed.wait(pipeline.enqueue(edited)))
        found = {frozenset(_owners_of_same(staffed, name))}
        while not run.done():
            found.add(frozenset(_owners_of_same(staffed, name)))
    found.add(frozenset(_owners_of_same(staffed, name)))  # the end may fall between two looks
    report = run.result()
    assert report.state is JobState.SUCCEEDED
    assert found >= {frozenset("a"), frozenset("b")}
    assert frozenset() not in found
    assert (report.documents.changed, report.documents.failed) == (2 if listed else 1, 0)
    assert (_owners(staffed, name), staffed.documents(name)) == (set("ab"), set("abc"))
    assert _is_clean(staffed, name)


def test_deleting_the_first_document_promotes_the_second(staffed: Deployment) -> None:
    """When the first document vanishes from its scope, the second has its nodes in search before that is deleted."""
    found = [_document("in/a"), _document("in/x", "Something else."), _document("out/b"), _document("out/c")]
    staffed.wait(staffed.pipeline("deleted", strategy="duplicates_only").enqueue(found))
    assert _owners(staffed, "deleted") == {"in/a", "in/x"}

    deleting = staffed.pipeline("deleted", strategy="upserts_and_delete")
    report = staffed.wait(deleting.enqueue([found[1]], scope="in/"))
    assert (report.state, report.documents.deleted) == (JobState.SUCCEEDED, 1)
    assert _owners(staffed, "deleted") == {"in/x", "out/b"}
    assert staffed.documents("deleted") == {"in/x", "out/b", "out/c"}
    assert _is_clean(staffed, "deleted")


@pytest.mark.parametrize("fate", ["refused", "deadly"])
def test_a_first_document_that_fails_does_not_take_the_second_along(staffed: Deployment, fate: str) -> None:
    """When the first document fails, alone or with its worker process, the second is ingested in the same job."""
    name = f"failing-{fate}"
    pipeline = staffed.pipeline(name, Picky(), strategy="duplicates_only")
    report = staffed.wait(
        pipeline.enqueue([_document("a", text=_SAME, **{fate: True}), _document("b"), _document("c")])
    )
    assert report.state is JobState.SUCCEEDED_WITH_FAILURES
    counts = report.documents
    assert (counts.seen, counts.failed, counts.new, counts.duplicate) == (3, 1, 1, 1)
    assert _owners(staffed, name) == staffed.documents(name) - {"c"} == {"b"}
    assert _is_clean(staffed, name)


def test_of_documents_that_all_fail_each_is_tried(staffed: Deployment) -> None:
    """Where the second document fails as well, the third is tried, and each failure is recorded."""
    pipeline = staffed.pipeline("all failing", Picky(), strategy="duplicates_only")
    job = pipeline.enqueue([_document("a", refused=True), _document("b", refused=True), _document("c")])
    report = staffed.wait(job)
    assert (report.documents.failed, report.documents.new, report.documents.duplicate) == (2, 1, 0)
    assert {failure.document_id for failure in job.failures()} == {"a", "b"}
    assert _owners(staffed, "all-failing") == {"c"}
