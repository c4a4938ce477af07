"""`docmill doctor`: each thing that is wrong with a deployment is named, with the way to mend it."""

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from redis import Redis

from orchestrator.cli import checkup as checkup_module
from orchestrator.cli.checkup import Finding, checkup
from orchestrator.connections import Connections
from orchestrator.contracts.addresses import redis_client_url
from orchestrator.contracts.queues import COMMIT_QUEUE, CONTROL_QUEUE, TRANSFORM_QUEUE
from orchestrator.ledger.clock import now
from orchestrator.ledger.engine import begin
from orchestrator.ledger.migrate import upgrade
from orchestrator.ledger.tables import REVISION
from orchestrator.runtime import worker_command, worker_environment
from tests.deployment import deployment_settings, wait_for

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second is enough for workers on this machine."""
    monkeypatch.setattr(checkup_module, "_PATIENCE_SECONDS", 0.5)


@pytest.fixture
def connections(postgres_url: str, redis_url: str, cache_url: str, tmp_path: Path) -> Iterator[Connections]:
    """Services that are well, without a worker."""
    opened = Connections(deployment_settings(postgres_url, redis_url, cache_url, tmp_path))
    upgrade(opened.engine)
    yield opened
    opened.close()


def wrong_in(connections: Connections) -> dict[str, str]:
    """{check: message} of what is wrong."""
    found: list[Finding] = checkup(connections)
    return {finding.name: finding.message for finding in found if not finding.ok}


def test_without_a_worker_that_alone_is_wrong(connections: Connections) -> None:
    """Where no worker runs, doctor finds all else well, and says which command starts one."""
    wrong = wrong_in(connections)
    assert set(wrong) == {"workers"}
    assert "docmill worker" in wrong["workers"]


def test_a_queue_that_no_worker_takes_from_is_named(connections: Connections, tmp_path: Path) -> None:
    """A worker that takes from one queue alone leaves the others: doctor names these, and not that one."""
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [*worker_command(1), "--queues", TRANSFORM_QUEUE],
            env={**os.environ, **worker_environment(connections.settings)},
            stdout=log,
            stderr=log,
        )
    try:
        message = ""

        def is_heard() -> bool:
            nonlocal message
            message = wrong_in(connections)["workers"]
            return "no worker takes from" in message

        wait_for(is_heard)
        assert COMMIT_QUEUE in message
        assert CONTROL_QUEUE in message
        assert TRANSFORM_QUEUE not in message
    finally:
        worker.terminate()
        worker.wait(20)


@pytest.mark.parametrize("check", ["broker", "results"])
def test_a_redis_that_evicts_is_named(check: str, connections: Connections) -> None:
    """A Redis that throws keys away when it is full would lose messages and results: doctor names the policy to set."""
    with Redis.from_url(redis_client_url(str(connections.settings.broker_url))) as redis:
        before = redis.config_get("maxmemory-policy")["maxmemory-policy"]
        redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            assert "maxmemory-policy noeviction" in wrong_in(connections)[check]
        finally:
            redis.config_set("maxmemory-policy", before)
    assert check not in wrong_in(connections)


def test_a_schema_of_another_release_is_named(connections: Connections) -> None:
    """A ledger that was not migrated is named, with both levels and the command that mends it."""
    level = "UPDATE alembic_version SET version_num = '{}'"  # the tables stay as they are, for the next test
    with begin(connections.engine) as connection:
        connection.exec_driver_sql(level.format("0001"))
    try:
        wrong = wrong_in(connections)
    finally:
        with begin(connections.engine) as connection:
            connection.exec_driver_sql(level.format(REVISION))
    assert "0001" in wrong["database"]
    assert "docmill db upgrade" in wrong["database"]


def test_clocks_that_differ_are_named(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock an hour from the database's is named with the seconds between them, and NTP as the way out."""
    monkeypatch.setattr(checkup_module, "now", partial(now, 3600.0))
    wrong = wrong_in(connections)
    assert "NTP" in wrong["clock"]
    assert "3600 s apart" in wrong["clock"]


@pytest.mark.parametrize("check", ["database", "broker", "cache"])
def test_a_service_that_is_away_is_named(
    check: str, postgres_url: str, redis_url: str, cache_url: str, tmp_path: Path
) -> None:
    """A service that does not answer is named with its address and without its password; the others are looked at."""
    addresses = {"database": postgres_url, "broker": redis_url, "cache": cache_url}
    scheme = "postgresql+psycopg" if check == "database" else "redis"
    addresses[check] = f"{scheme}://somebody:hunter2@127.0.0.1:1/0"
    settings = deployment_settings(
        addresses["database"], addresses["broker"], addresses["cache"], tmp_path, result_url=redis_url
    )
    opened = Connections(settings)
    try:
        wrong = wrong_in(opened)
    finally:
        opened.close()
    assert "127.0.0.1:1" in wrong[check]
    assert "hunter2" not in str(wrong)
    assert "results" not in wrong
