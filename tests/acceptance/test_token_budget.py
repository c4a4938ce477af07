"""A job with a token budget on real workers: it stops paying, commits what is paid for, and its bill adds up."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from orchestrator import Document, IngestionPipeline, JobState
from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.report import BatchState
from orchestrator.ledger.engine import begin
from orchestrator.ledger.tables import payments
from orchestrator.runtime import worker_environment
from tests.deployment import Deployment, run_docmill, wait_for
from tests.openai_server import OpenAIStub, openai_stub
from workers.transformations import Embed, KeywordsExtractor, SentenceSplitter

pytestmark = pytest.mark.acceptance

_LLM = "openai/small"
_EMBEDDER = "openai/embedding-test@16"
_COUNT = 60


@pytest.fixture
def server() -> Iterator[OpenAIStub]:
    """A server that bills its own numbers."""
    with openai_stub() as stub:
        yield stub


@pytest.fixture
def deployment(deploy: Callable[..., Deployment], server: OpenAIStub) -> Deployment:
    """A deployment whose workers know the server."""
    return deploy(openai_base_url=server.url, window=4, segment_batches=2)


def corpus(about: str) -> list[Document]:
    texts = [f"Document {number} tells of {about}{number}, sentence after sentence. " * 30 for number in range(_COUNT)]
    return [Document(id=f"doc{number}", text=text) for number, text in enumerate(texts)]


def pipeline(deployment: Deployment, collection: str, token_budget: int | None = None) -> IngestionPipeline:
    return IngestionPipeline(
        collection,
        [SentenceSplitter(chunk_size=256, chunk_overlap=0), KeywordsExtractor(llm=_LLM), Embed(_EMBEDDER)],
        token_budget=token_budget,
        connections=deployment.connections,
    )


def billed(server: OpenAIStub) -> int:
    return server.prompt + server.completion + server.embedding


def test_a_job_stops_at_its_budget_and_goes_on_with_a_larger_one(deployment: Deployment, server: OpenAIStub) -> None:
    """The job fails with a reason, overshoots by no more than was in flight, and what it paid for is not paid again."""
    deployment.start_worker(concurrency=2)
    whole = deployment.wait(pipeline(deployment, "whole").enqueue(corpus("mills")))
    assert whole.state is JobState.SUCCEEDED
    lines = {(line.transformation, line.model): line for line in whole.bill}
    assert lines.keys() == {("keywords_extractor", _LLM), ("embed", _EMBEDDER)}
    assert lines["embed", _EMBEDDER].embedding == whole.tokens.embedding == server.embedding
    assert lines["keywords_extractor", _LLM].prompt == whole.tokens.prompt == server.prompt
    assert whole.tokens.completion == server.completion
    assert whole.tokens.estimated == 0
    cost = billed(server)

    budget = cost // 2
    stopped = deployment.wait(pipeline(deployment, "budgeted", budget).enqueue(corpus("rivers")))
    first = billed(server) - cost
    assert stopped.state is JobState.FAILED
    assert f"the budget of {budget:,} tokens is exceeded" in str(stopped.error)
    assert "raise token_budget" in str(stopped.error)
    tokens = stopped.tokens
    assert tokens.embedding + tokens.prompt + tokens.completion == first
    in_flight = 2 * cost / whole.batches.total  # two workers, a batch each
    assert budget - 2 * in_flight < first < budget + in_flight
    counts = stopped.documents
    assert 0 < counts.new == len(deployment.documents("budgeted")) < _COUNT
    assert counts.seen == counts.new + counts.failed
    assert stopped.nodes.upserted == len(deployment.nodes("budgeted"))

    rest = deployment.wait(pipeline(deployment, "budgeted").enqueue(corpus("rivers"), token_budget=cost))
    assert rest.state is JobState.SUCCEEDED
    assert (rest.documents.unchanged, rest.documents.new) == (counts.new, _COUNT - counts.new)
    assert 0.9 < (billed(server) - cost) / cost < 1.1, "both parts together cost what the whole costs"

    environment = worker_environment(deployment.settings)
    shown = run_docmill(["status", rest.job_id], environment).stdout
    assert f"embed by {_EMBEDDER}: {rest.tokens.embedding:,} embedding" in shown
    report = json.loads(run_docmill(["status", rest.job_id, "--json"], environment).stdout)
    assert [line["transformation"] for line in report["bill"]] == ["embed", "keywords_extractor"]


def test_a_local_embedder_keeps_within_the_budget(deployment: Deployment) -> None:
    """Tokens that are counted before they are embedded never go beyond the budget of a job with one worker."""
    deployment.start_worker(concurrency=1)
    steps = [SentenceSplitter(chunk_size=64, chunk_overlap=0), Embed("hashed", batch_size=4)]
    made = IngestionPipeline("local", steps, connections=deployment.connections)
    report = deployment.wait(made.enqueue(corpus("bridges"), token_budget=2000))
    assert report.state is JobState.FAILED
    assert 2000 - 4 * 64 < report.tokens.embedding <= 2000
    assert report.tokens.estimated == report.tokens.embedding


def test_a_worker_that_dies_leaves_its_bill(deployment: Deployment, server: OpenAIStub) -> None:
    """What a worker had paid by its last heartbeat is on the bill although it was killed, and counts for the budget."""
    server.pause = 0.8
    made = pipeline(deployment, "died")
    worker = deployment.start_worker(concurrency=1, DOCMILL_HEARTBEAT="0.3")
    job = made.enqueue(corpus("deaths")[:4], token_budget=10**6)
    wait_for(lambda: job.progress.tokens)
    assert job.progress.batches[BatchState.RUNNING]
    worker.kill()
    before = job.progress.tokens
    server.pause = 0.0
    deployment.start_worker(concurrency=1)
    report = deployment.wait(job)
    assert report.state is JobState.SUCCEEDED
    tokens = report.tokens
    assert before < tokens.prompt + tokens.completion + tokens.embedding <= billed(server)
    with begin(deployment.connections.engine) as connection:
        attempts = set(connection.execute(select(payments.c.attempt).where(payments.c.job_id == job.id)).scalars())
    assert attempts == {1, 2}


def test_a_budget_of_nothing_is_refused_before_anything_is_done(deployment: Deployment, tmp_path: Path) -> None:
    """A budget below 1 is refused by Python, pipeline file and command line, with the value and what is allowed."""
    refusal = "token_budget must be a whole number of tokens from 1 on, or None for no limit, not 0"
    with pytest.raises(ConfigurationError, match=refusal):
        pipeline(deployment, "none", 0)
    with pytest.raises(ConfigurationError, match=refusal):
        pipeline(deployment, "none").enqueue(corpus("nothing"), token_budget=0)
    file = tmp_path / "pipeline.toml"
    file.write_text("token_budget = 0\n")
    environment = worker_environment(deployment.settings)
    for option, value in (("--pipeline", str(file)), ("--token-budget", "0")):
        refused = run_docmill(["ingest", str(tmp_path), option, value, "--no-wait"], environment)
        assert (refused.returncode, refusal in refused.stderr) == (1, True), refused.stderr
    listed = json.loads(run_docmill(["jobs", "--json"], environment).stdout)["jobs"]
    assert not [job for job in listed if job["collection"] == "none"]


def test_callback_handlers_of_the_settings_hear_of_every_call(
    deploy: Callable[..., Deployment], server: OpenAIStub, tmp_path: Path
) -> None:
    """What the workers' settings name hears of each paid call, to the sum of the job's bill; a wrong name is said."""
    bill = tmp_path / "bill"
    deployment = deploy(openai_base_url=server.url, callback_handlers=("test_bill",))
    deployment.start_worker(concurrency=2, TEST_BILL=str(bill))
    report = deployment.wait(pipeline(deployment, "heard").enqueue(corpus("bells")))
    heard = [line.split() for line in bill.read_text().splitlines()]
    assert {transformation for transformation, _ in heard} == {"keywords_extractor", "embed"}
    assert len(heard) == len(server.requests)
    assert sum(int(tokens) for _, tokens in heard) == billed(server)
    assert report.tokens.prompt + report.tokens.completion + report.tokens.embedding == billed(server)
    mute = deployment.start_worker(DOCMILL_CALLBACK_HANDLERS="test_bil")
    assert mute.process.wait(30) == 1
    assert "'test_bil'" in mute.log.read_text()
