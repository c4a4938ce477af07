"""Extraction and embedding by a server that speaks OpenAI's API, on real workers: the bill, the cache, the waits."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from pydantic import SecretStr

from orchestrator import Document, IngestionPipeline, JobState
from orchestrator.contracts.report import BatchState
from orchestrator.ledger.engine import begin
from orchestrator.ledger.tables import batches
from tests.deployment import Deployment, wait_for
from tests.openai_server import Fault, OpenAIStub, openai_stub
from workers.transformations import Embed, KeywordsExtractor, SentenceSplitter, TitleExtractor

pytestmark = pytest.mark.acceptance

_KEY = "sk-of-the-acceptance-test"
_LLM = "openai/small"


@pytest.fixture
def server() -> Iterator[OpenAIStub]:
    """A server that takes one key."""
    with openai_stub() as stub:
        stub.key = _KEY
        yield stub


@pytest.fixture
def deployment(deploy: Callable[..., Deployment], server: OpenAIStub) -> Deployment:
    """A deployment whose workers know the server and its key."""
    return deploy(openai_base_url=server.url, openai_api_key=SecretStr(_KEY))


def corpus(count: int, about: str) -> list[Document]:
    """Documents that no other test's cache entries fit."""
    texts = [f"Document {number} tells of {about}{number}, sentence after sentence. " * 30 for number in range(count)]
    return [Document(id=f"doc{number}", text=text) for number, text in enumerate(texts)]


def pipeline(deployment: Deployment, collection: str) -> IngestionPipeline:
    return IngestionPipeline(
        collection,
        [
            SentenceSplitter(chunk_size=128, chunk_overlap=0),
            TitleExtractor(llm=_LLM, nodes=2),
            KeywordsExtractor(llm=_LLM),
            Embed("openai/embedding-test@16"),
        ],
        connections=deployment.connections,
    )


def states(deployment: Deployment, job_id: str) -> list[tuple[str, str | None]]:
    """(state, reason) of the batches of a job."""
    with begin(deployment.connections.engine) as connection:
        rows = connection.execute(batches.select().where(batches.c.job_id == job_id).order_by(batches.c.number))
        return [(row.state, row.reason) for row in rows]


def test_the_bill_is_what_the_server_returned(deployment: Deployment, server: OpenAIStub) -> None:
    """The report's tokens are those that the server billed, through faults and retries; a second run pays nothing."""
    trouble = Fault(status=500), Fault(cut=True), Fault(status=429, headers={"Retry-After": "0.1"}), Fault(body=b"{")
    server.faults.extend([Fault(), *trouble, Fault(), *trouble])
    deployment.start_worker(concurrency=2)
    report = deployment.wait(pipeline(deployment, "billed").enqueue(corpus(24, "mills")))
    assert report.state is JobState.SUCCEEDED
    assert report.documents.new == 24
    assert report.nodes.upserted == len(deployment.nodes("billed"))
    tokens = report.tokens
    assert (tokens.prompt, tokens.completion, tokens.embedding) == (server.prompt, server.completion, server.embedding)
    assert min(server.prompt, server.completion, server.embedding) > 0

    asked = len(server.requests)
    for collection, counted in (("billed", "unchanged"), ("copied", "new")):
        again = deployment.wait(pipeline(deployment, collection).enqueue(corpus(24, "mills")))
        assert getattr(again.documents, counted) == 24
        assert again.tokens.prompt == again.tokens.completion == again.tokens.embedding == 0
    assert len(server.requests) == asked
    assert len(deployment.nodes("copied")) == report.nodes.upserted
    (match, *_) = deployment.store.search("copied", np.ones(16, np.float32), 1)
    assert match.metadata["document_title"].startswith("Answer")
    assert match.metadata["excerpt_keywords"].startswith("Answer")
    assert _KEY not in deployment.workers[0].log.read_text()


def test_a_long_wait_frees_the_worker(deployment: Deployment, server: OpenAIStub) -> None:
    """A batch that is told to wait is `retrying` with the reason, and the one worker does other work meanwhile."""
    server.faults.append(Fault(status=429, message="too many tokens a minute", headers={"Retry-After": "6"}))
    deployment.start_worker(concurrency=1)
    job = pipeline(deployment, "waiting").enqueue(corpus(1, "rivers"))
    wait_for(lambda: states(deployment, job.id)[0][0] == BatchState.RETRYING)
    ((_, reason),) = states(deployment, job.id)
    assert reason is not None
    assert "429" in reason
    assert "too many tokens a minute" in reason
    assert len(server.requests) <= 2

    other = deployment.wait(deployment.pipeline("meanwhile").enqueue(corpus(3, "bridges")))
    assert other.state is JobState.SUCCEEDED
    assert states(deployment, job.id)[0][0] == BatchState.RETRYING

    report = deployment.wait(job)
    assert report.state is JobState.SUCCEEDED
    assert report.seconds >= 6
    assert report.batches.retried == 1
    tokens = report.tokens
    assert (tokens.prompt, tokens.completion, tokens.embedding) == (server.prompt, server.completion, server.embedding)


def test_a_wrong_key_ends_the_job_with_the_servers_words(deployment: Deployment, server: OpenAIStub) -> None:
    """A key that the server refuses ends the job at once, says so without showing it, and leaves nothing behind."""
    server.key = "another"
    deployment.start_worker(concurrency=1)
    report = deployment.wait(pipeline(deployment, "refused").enqueue(corpus(24, "keys")))
    assert report.state is JobState.FAILED
    assert "answered 401 for 'openai/small': Incorrect key: Bearer ***" in str(report.error)
    assert report.documents.failed == 24
    assert len(server.requests) < 24
    assert _KEY not in deployment.workers[0].log.read_text()
