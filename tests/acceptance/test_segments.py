"""A segment is committed as one, and its nodes are held and written a batch at a time. All in this process."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from orchestrator import Document, JobState
from orchestrator.contracts.messages import CommitMessage, TransformMessage
from orchestrator.contracts.report import BatchState
from orchestrator.job import Job
from tests.deployment import Deployment
from workers import commit as commit_module
from workers.commit import commit
from workers.context import WorkerContext
from workers.transform import transform
from workers.vector_stores.pgvector import PgVectorStore

pytestmark = pytest.mark.acceptance


@pytest.fixture
def context(deployment: Deployment) -> WorkerContext:
    """What a worker process holds, with no worker near."""
    return WorkerContext(deployment.settings, deployment.connections.app)


@pytest.fixture
def upserts(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The documents of each upsert."""
    found: list[set[str]] = []
    upsert = PgVectorStore.upsert

    def recorded(self: PgVectorStore, connection: Any, collection: str, nodes: Sequence[Any], **options: Any) -> None:
        found.append({node.document_id for node in nodes})
        upsert(self, connection, collection, nodes, **options)

    monkeypatch.setattr(PgVectorStore, "upsert", recorded)
    return found


def _transformed(context: WorkerContext, job: Job) -> list[int]:
    """Run all of a job's batches to where they wait for their commit."""
    numbers = list(range(sum(job.progress.batches.values())))
    for number in numbers:
        transform(context, TransformMessage(job=job.id, batch=number))
    return numbers


def _corpus(edition: str = "first") -> list[Document]:
    sentence = f"A sentence of the {edition} edition, with some words in it. "
    return [Document(id=f"{number}", text=f"Number {number}. " + sentence * 40) for number in range(40)]


def test_nodes_of_a_segment_are_written_a_batch_at_a_time(
    deployment: Deployment, context: WorkerContext, upserts: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many batches a commit takes, it never holds the nodes of two full ones; what is stale goes for all."""
    monkeypatch.setattr(commit_module, "_BYTES_AT_ONCE", 1)
    pipeline = deployment.pipeline("by-batch")
    for edition in ("first", "second"):
        job = pipeline.enqueue(_corpus(edition))
        numbers = _transformed(context, job)
        assert len(numbers) > 3
        upserts.clear()
        done = commit(context, CommitMessage(job=job.id, batches=numbers))
        assert done["batches"] == len(upserts) == len(numbers)
        assert sum(map(len, upserts)) == 40
        assert set.union(*upserts) == deployment.documents("by-batch")
        assert job.state is JobState.SUCCEEDED
        assert len(deployment.nodes("by-batch")) == done["nodes"]
    assert done["removed"] == done["nodes"]


def test_light_batches_are_written_together(
    deployment: Deployment, context: WorkerContext, upserts: list[set[str]]
) -> None:
    """Batches that make no full one between them are one upsert: a few edits cost no more than they did."""
    job = deployment.pipeline("light").enqueue(_corpus())
    numbers = _transformed(context, job)
    assert commit(context, CommitMessage(job=job.id, batches=numbers))["batches"] == len(numbers) > 3
    assert [len(documents) for documents in upserts] == [40]


@pytest.mark.parametrize(
    ("name", "damage"),
    [("its-nodes", lambda blob: blob[:-9] + b"\0" + blob[-8:]), ("its-summary", lambda blob: blob[:30])],
)
def test_a_batch_whose_nodes_are_damaged_runs_again_alone(
    deployment: Deployment, context: WorkerContext, name: str, damage: Callable[[bytes], bytes]
) -> None:
    """A blob that cannot be read, or not to its end, is as good as lost; the others of its segment are committed."""
    job = deployment.pipeline(name).enqueue(_corpus())
    numbers = _transformed(context, job)
    (key,) = deployment.redis.keys(f"docmill:{{{job.id}}}:blob:1:*")
    blob: Any = deployment.redis.get(key)
    deployment.redis.set(key, damage(blob))
    done = commit(context, CommitMessage(job=job.id, batches=numbers))
    assert (done["batches"], done["lost"]) == (len(numbers) - 1, 1)
    assert job.progress.batches == {BatchState.COMMITTED: len(numbers) - 1, BatchState.WAITING: 1}

    transform(context, TransformMessage(job=job.id, batch=1))
    commit(context, CommitMessage(job=job.id, batches=[1]))
    assert job.state is JobState.SUCCEEDED
    assert {document for document, _ in deployment.nodes(name)} == deployment.documents(name)
    assert len(deployment.documents(name)) == 40


def test_segments_of_a_job_are_committed_at_once_where_there_are_aliases(
    deployment: Deployment, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents that stand for others keep no commit of their job waiting for another: as many go at once as can."""
    pipeline = deployment.pipeline("at-once", strategy="duplicates_only")
    before = pipeline.enqueue([Document(id="before", text="Whoever comes first makes the collection.")])
    commit(context, CommitMessage(job=before.id, batches=_transformed(context, before)))
    copies = [document.model_copy(update={"id": f"copy-{document.id}"}) for document in _corpus()[::4]]
    job = pipeline.enqueue([*_corpus(), *copies])
    numbers = _transformed(context, job)
    reached, goes_on = Event(), Event()

    def hold_the_first(name: str) -> None:
        if name == "commit.written" and not reached.is_set():
            reached.set()
            assert goes_on.wait(30)

    monkeypatch.setattr(commit_module, "failpoint", hold_the_first)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(commit, context, CommitMessage(job=job.id, batches=numbers[:2]))
        assert reached.wait(10)
        try:
            second = pool.submit(commit, context, CommitMessage(job=job.id, batches=numbers[2:])).result(10)
        finally:
            goes_on.set()
        assert (first.result(10)["batches"], second["batches"]) == (2, len(numbers) - 2)
    assert job.state is JobState.SUCCEEDED
    assert {document for document, _ in deployment.nodes("at-once")} == {"before", *(found.id for found in _corpus())}


def test_an_alias_that_nobody_knew_of_is_not_left_behind(deployment: Deployment, context: WorkerContext) -> None:
    """A document that was new when it was read, and stands for another when it is committed, leaves it its content."""
    pipeline = deployment.pipeline("unknown", strategy="duplicates_only")
    older = pipeline.enqueue([Document(id="x", text="As it was."), Document(id="y", text="As it was.")])
    newer = pipeline.enqueue([Document(id="x", text="As it is.")])
    for job in (older, newer):
        _transformed(context, job)
        commit(context, CommitMessage(job=job.id, batches=[0]))
    assert newer.progress.batches == {BatchState.COMMITTED: 1, BatchState.WAITING: 1}
    transform(context, TransformMessage(job=newer.id, batch=1))
    commit(context, CommitMessage(job=newer.id, batches=[1]))
    assert newer.state is JobState.SUCCEEDED
    assert {document for document, _ in deployment.nodes("unknown")} == {"x", "y"}
