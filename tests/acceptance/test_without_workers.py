"""A deployment on which nobody works: what a caller can do, and what it is told."""

import asyncio
import time
import warnings

import pytest

from orchestrator import Document, IngestionPipeline, JobState
from tests.deployment import Deployment
from workers.transformations import Embed

pytestmark = pytest.mark.acceptance


def _document(id: str) -> Document:
    return Document(id=id, text=f"The text of {id}.")


def _pipeline(deployment: Deployment, name: str) -> IngestionPipeline:
    return IngestionPipeline(name, [Embed("hashed")], connections=deployment.connections)


def test_a_cancelled_arun_stops_waiting(deployment: Deployment) -> None:
    """Cancelling `arun`, or its timeout, ends the waiting at once, though no worker will ever do the job."""

    async def main() -> None:
        pipeline = _pipeline(deployment, "nobody works")
        run = asyncio.create_task(pipeline.arun([_document("a")]))
        while not deployment.redis.pubsub_channels("docmill:*"):
            await asyncio.sleep(0.01)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        with pytest.raises(TimeoutError, match="it goes on"):
            await pipeline.arun([_document("b")], timeout=0.2)

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 10


def test_workers_of_a_deployment_are_not_the_callers(deployment: Deployment) -> None:
    """`num_workers` changes nothing on a deployment, and a warning says how its workers are started."""
    with pytest.warns(UserWarning, match="docmill worker --concurrency 3"):
        job = _pipeline(deployment, "elsewhere").enqueue([_document("a")], num_workers=3)
    assert job.state is JobState.RUNNING
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _pipeline(deployment, "elsewhere").enqueue([_document("b")])
