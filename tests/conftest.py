"""The fixtures that tests of all kinds share: real services, and an environment that is nobody's."""

import os
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from redis import Redis
from sqlalchemy import make_url

from orchestrator.contracts.addresses import redis_client_url
from orchestrator.embedded.postgres import PostgresServer
from orchestrator.embedded.redis import RedisServer
from tests.services import Services


def pytest_configure() -> None:
    """The settings of whoever runs the tests are not the tests'."""
    for name in [name for name in os.environ if name.startswith("DOCMILL_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """All services, each started by the first who asks for it."""
    services = Services()
    yield services
    services.close()


@pytest.fixture(scope="session")
def postgres_server(services: Services) -> PostgresServer:
    """A Postgres that lives as long as the session."""
    return services.postgres


@pytest.fixture(scope="module")
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of an empty database, new for each test module, as SQLAlchemy writes it."""
    name = f"test_{uuid4().hex}"
    url = make_url(postgres_server.url)
    server = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        yield url.set(database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def redis_url(services: Services) -> str:
    """The address of a Redis for broker and results, empty for each test module, as Celery writes it."""
    return _emptied(services.redis)


@pytest.fixture(scope="module")
def cache_url(services: Services) -> str:
    """The address of a Redis for the cache, empty for each test module, as Celery writes it."""
    return _emptied(services.cache)


@pytest.fixture(scope="session")
def rabbitmq_url(services: Services) -> str:
    """The address of a RabbitMQ for the broker, which the tests of a session share, as Celery writes it."""
    return services.rabbitmq.url


def _emptied(server: RedisServer) -> str:
    url = server.url(0)
    with Redis.from_url(redis_client_url(url)) as client:
        client.flushall()
    return url
