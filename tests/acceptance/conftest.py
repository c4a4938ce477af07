"""A deployment with real workers for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.settings import Settings, load_settings
from tests.deployment import Deployment


@pytest.fixture
def settings(postgres_url: str, redis_url: str, cache_url: str, tmp_path: Path) -> Settings:
    """The settings of a deployment on the session's servers, with batches so small that there are many."""
    return load_settings(
        database_url=postgres_url,
        broker_url=redis_url,
        cache_url=cache_url,
        home=tmp_path,
        batch_bytes=8 * 1024,
        window=16,
        segment_batches=4,
        modules="tests.transformations",
        heartbeat=1.0,
        stale_after=4.0,
        reconcile_every=1.0,
    )


@pytest.fixture
def deploy(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Make a deployment; its workers are stopped at the end of the test."""
    made: list[Deployment] = []

    def make(**overrides: object) -> Deployment:
        deployment = Deployment(settings.model_copy(update=overrides), tmp_path)
        made.append(deployment)
        return deployment

    yield make
    for deployment in made:
        deployment.close()


@pytest.fixture
def deployment(deploy: Callable[..., Deployment]) -> Deployment:
    """A deployment without workers yet."""
    return deploy()
