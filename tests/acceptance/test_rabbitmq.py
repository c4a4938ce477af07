"""RabbitMQ as the broker, with the results on Redis: jobs end, and a worker that dies loses no message."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import Document, JobState
from orchestrator.connections import Connections
from orchestrator.contracts.queues import DEAD_LETTER_QUEUE, QUEUES, TRANSFORM_QUEUE, send_transforms
from orchestrator.contracts.report import BatchState
from orchestrator.ledger import jobs
from orchestrator.ledger.engine import begin
from tests.chaos.workers import WorkerProcess
from tests.deployment import Deployment, deployment_settings, wait_for
from tests.logs import captured_logs
from tests.transformations import Slow
from workers.context import WorkerContext
from workers.reconcile import reconcile

pytestmark = pytest.mark.acceptance


@pytest.fixture
def deployment(
    postgres_url: str, redis_url: str, cache_url: str, rabbitmq_url: str, tmp_path: Path
) -> Iterator[Deployment]:
    """A deployment whose broker is RabbitMQ, without workers yet, and with nothing left of workers that were killed."""
    settings = deployment_settings(postgres_url, rabbitmq_url, cache_url, tmp_path, result_url=redis_url)
    deployment = Deployment(settings, tmp_path)
    with deployment.connections.app.connection_for_write() as connection:
        for name in QUEUES:
            queue = deployment.connections.app.amqp.queues[name].bind(connection.default_channel)
            queue.declare()
            queue.purge()
    # A reconciler that is killed holds its lock for some seconds more.
    deployment.redis.flushdb()
    yield deployment
    deployment.close()


def corpus(count: int) -> list[Document]:
    return [Document(id=f"doc{number}", text=f"Document {number} tells of its topic. " * 60) for number in range(count)]


def messages(deployment: Deployment, queue: str) -> int:
    """Messages that lie in a queue, not yet taken."""
    with deployment.connections.app.connection_for_read() as connection:
        return int(connection.default_channel.queue_declare(queue, passive=True).message_count)


def test_a_job_runs_from_end_to_end(deployment: Deployment) -> None:
    """Client and worker declare the same queues; a job goes through them, and leaves no message behind."""
    deployment.start_worker(concurrency=2)
    report = deployment.wait(deployment.pipeline("whole").enqueue(corpus(60)))
    assert (report.state, report.documents.new) == (JobState.SUCCEEDED, 60)
    assert len(deployment.nodes("whole")) == report.nodes.upserted
    assert messages(deployment, TRANSFORM_QUEUE) == messages(deployment, DEAD_LETTER_QUEUE) == 0


def test_a_killed_worker_loses_no_message(deployment: Deployment) -> None:
    """kill -9 of a loaded worker: RabbitMQ delivers again what it held, and the job ends with every document once."""
    victim = deployment.start_worker(concurrency=2)
    job = deployment.pipeline("killed", Slow(seconds=0.1)).enqueue(corpus(100))
    wait_for(lambda: job.progress.settled > 20 and job.progress.batches.get(BatchState.RUNNING) == 2)
    waiting = job.progress.batches[BatchState.WAITING]
    victim.kill()
    # Also those that the worker had fetched and not begun.
    wait_for(lambda: messages(deployment, TRANSFORM_QUEUE) >= waiting)
    deployment.start_worker(concurrency=2)
    report = deployment.wait(job)
    assert (report.state, report.documents.new) == (JobState.SUCCEEDED, 100)
    nodes = deployment.nodes("killed")
    assert len(nodes) == len(set(nodes)) == report.nodes.upserted
    assert {document for document, _ in nodes} == deployment.documents("killed")


def test_a_queue_that_is_not_there_counts_as_empty(deployment: Deployment) -> None:
    """Asking for a queue that is not there closes the channel, and nothing else: the reconciler finds nothing lost."""
    context = WorkerContext(deployment.settings, deployment.connections.app)
    with begin(deployment.connections.engine) as ledger:
        jobs.create(ledger, "0123456789ab", deployment.pipeline("early").spec)
    with deployment.connections.app.connection_for_write() as connection:
        connection.default_channel.queue_delete(TRANSFORM_QUEUE)
    with captured_logs() as logs:
        assert reconcile(context) == {}
    assert logs == []


def test_a_connection_that_broke_while_idle_costs_nothing(deployment: Deployment, tmp_path: Path) -> None:
    """A client whose connection the broker closed sends over a new one, and nobody notices."""
    deployment.start_worker()
    client = Connections(deployment.settings)
    pipeline = deployment.pipeline("idle", connections=client)
    assert deployment.wait(pipeline.enqueue(corpus(4))).state is JobState.SUCCEEDED
    with client.app.producer_or_acquire() as producer:
        producer.connection.connection.transport.sock.close()
    send_transforms(client.app, "0123456789ab", [(0, 1)])
    client.close()


def test_two_workers_of_one_name_live_together(deployment: Deployment, tmp_path: Path) -> None:
    """Workers on one machine have one name by default; on RabbitMQ neither locks the other out of its mailbox."""
    twins = [WorkerProcess(deployment.settings, tmp_path / name, concurrency=1) for name in ("one", "two")]
    report = deployment.wait(deployment.pipeline("twins", Slow(seconds=0.1)).enqueue(corpus(60)))
    assert report.state is JobState.SUCCEEDED
    assert [twin.supervisor.restarts for twin in twins] == [0, 0]
    for twin in twins:
        twin.supervisor.stop()
