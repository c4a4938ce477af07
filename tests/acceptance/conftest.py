"""A deployment with real workers for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.settings import Settings
from tests.deployment import Deployment, deployment_settings


@pytest.fixture
def settings(postgres_url: str, redis_url: str, cache_url: str, tmp_path: Path) -> Settings:
    """The settings of a deployment on the session's servers, with batches so small that there are many."""
    return deployment_settings(postgres_url, redis_url, cache_url, tmp_path)


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


@pytest.fixture(scope="module")
def staffed(
    postgres_url: str, redis_url: str, cache_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A deployment with a worker that the tests of a module share: each ingests into collections of its own."""
    home = tmp_path_factory.mktemp("staffed")
    settings = deployment_settings(postgres_url, redis_url, cache_url, home).model_copy(update={"max_attempts": 1})
    deployment = Deployment(settings, home)
    deployment.start_worker()
    yield deployment
    deployment.close()
