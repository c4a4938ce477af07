"""Every connection over TLS with a password: jobs end, and a certificate that cannot be verified is refused."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis
from sqlalchemy import make_url

from orchestrator import Document, JobState
from orchestrator.cli.checkup import checkup
from orchestrator.connections import Connections
from orchestrator.contracts.addresses import redis_client_url
from orchestrator.contracts.errors import ServiceUnreachable
from orchestrator.contracts.queues import QUEUES
from orchestrator.embedded.postgres import PostgresServer
from orchestrator.pipeline import IngestionPipeline
from orchestrator.runtime import worker_environment
from orchestrator.settings import Settings, load_settings
from tests.deployment import Deployment, Worker, run_docmill, wait_for
from tests.ports import free_port
from tests.rabbitmq import RabbitServer
from tests.services import Services, missing
from tests.tls import Certificate, TlsDoor, make_certificate
from workers.transformations import Embed

pytestmark = pytest.mark.acceptance

USER, PASSWORD = "docmill_tls", "hunter2-behind-tls"
SECRETS = re.compile(f"{PASSWORD}|{RabbitServer.PASSWORD}")
ACL = (f">{PASSWORD}", "~docmill:*", "&*", "+@all", "-@admin", "-@dangerous", "+info")
# What each client says of a certificate that it does not take.
REFUSED = ("certificate verify failed", "does not match host name")


class Address:
    """The encrypted addresses of the services; each leads to a real server, and asks for a password."""

    def __init__(self, services: Services, certificate: Certificate, ports: dict[str, int], database: str) -> None:
        self._services = services
        self._certificate = certificate
        self._ports = ports
        self._database = database

    @property
    def ca(self) -> Path:
        """The CA that signed the servers' certificate."""
        return self._certificate.ca

    def __call__(self, service: str, *, ca: Path | None = None, host: str = "localhost") -> str:
        """One address; with another CA or host, the one by which the certificate must be refused."""
        ca = ca or self._certificate.ca
        if service == "rabbitmq":
            port = self._services.rabbitmq.tls_port  # it has TLS built in
            return f"amqps://{RabbitServer.USER}:{RabbitServer.PASSWORD}@{host}:{port}//?ssl_ca_certs={ca}"
        place = f"{USER}:{PASSWORD}@{host}:{self._ports[service]}"
        if service == "database":
            return f"postgresql+psycopg://{place}/{self._database}?sslmode=verify-full&sslrootcert={ca}"
        return f"rediss://{place}/0?ssl_cert_reqs=required&ssl_ca_certs={ca}"


@pytest.fixture(scope="module")
def address(
    services: Services, postgres_server: PostgresServer, postgres_url: str, redis_url: str, cache_url: str
) -> Iterator[Address]:
    """Doors with TLS to the session's servers, and a user with a password on each."""
    certificate = services.certificate or missing("openssl", "apt-get install openssl")
    url = make_url(postgres_url)
    _ask_for_password(postgres_server, url.set(drivername="postgresql").render_as_string(), str(url.database))
    socket = Path(str(url.query["host"]), f".s.PGSQL.{url.query['port']}")
    with ExitStack() as opened:
        ports = {}
        for service, target in (
            ("redis", services.redis.socket),
            ("cache", services.cache.socket),
            ("database", socket),
        ):
            door = TlsDoor(target, certificate, is_postgres=service == "database")
            opened.callback(door.close)
            ports[service] = door.port
        for server in (redis_url, cache_url):
            admin: Any = opened.enter_context(Redis.from_url(redis_client_url(server)))
            admin.execute_command("ACL", "SETUSER", USER, "reset", "on", *ACL)
            opened.callback(admin.execute_command, "ACL", "DELUSER", USER)
        yield Address(services, certificate, ports, str(url.database))


def _ask_for_password(server: PostgresServer, url: str, database: str) -> None:
    rules = server.data / "pg_hba.conf"
    rules.write_text(f"local all {USER} scram-sha-256\n{rules.read_text()}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        connection.execute(f"ALTER DATABASE {database} OWNER TO {USER}")
        connection.execute(
            "CREATE EXTENSION vector"
        )  # takes an administrator; the user needs no more than its database
        connection.execute("SELECT pg_reload_conf()")


def settings_of(address: Address, folder: Path, broker: str = "redis", **overrides: str) -> Settings:
    """Settings all of whose addresses are encrypted."""
    addresses = {
        "database_url": address("database"),
        "broker_url": address(broker),
        "result_url": address("redis"),
        "cache_url": address("cache"),
    }
    times = {"heartbeat": 1.0, "stale_after": 4.0, "reconcile_every": 1.0}
    return load_settings(**{**addresses, **overrides}, home=folder, batch_bytes=8 * 1024, **times)


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def deployment(
    request: pytest.FixtureRequest, address: Address, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A deployment with a worker, whose broker is either, and which has no connection that is not encrypted."""
    broker: str = request.param
    folder = tmp_path_factory.mktemp(broker)
    deployment = Deployment(settings_of(address, folder, broker), folder)
    deployment.start_worker(concurrency=2)
    yield deployment
    deployment.close()


def corpus(count: int) -> list[Document]:
    return [Document(id=f"doc{number}", text=f"Document {number} tells of its topic. " * 60) for number in range(count)]


def test_a_job_runs_from_end_to_end(deployment: Deployment) -> None:
    """With every connection encrypted, verified and under a password, a job runs, and its nodes are found."""
    collection = str(deployment.settings.broker_url).partition(":")[0]
    report = deployment.wait(deployment.pipeline(collection).enqueue(corpus(20)))
    assert (report.state, report.documents.new) == (JobState.SUCCEEDED, 20)
    assert len(deployment.nodes(collection)) == report.nodes.upserted
    shown = deployment.workers[0].log.read_text(errors="replace")
    assert not SECRETS.search(shown)
    assert "cache does not answer" not in shown


def test_doctor_finds_all_well(deployment: Deployment) -> None:
    """`docmill doctor` connects to every service as the workers do, and hears from the worker."""
    wait_for(lambda: all(finding.ok for finding in checkup(deployment.connections)))
    assert not SECRETS.search(str(checkup(deployment.connections)))


def test_flower_sees_the_workers(deployment: Deployment) -> None:
    """Flower connects to the broker as the workers do: it lists the worker, and the length of the queues of a Redis."""
    port = free_port()
    command = [sys.executable, "-m", "workers.flower", "--address=127.0.0.1", f"--port={port}"]
    environment = {**os.environ, **worker_environment(deployment.settings), "FLOWER_UNAUTHENTICATED_API": "true"}
    log = deployment.folder / "flower.log"
    with log.open("wb") as output:
        flower = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_for(lambda: "worker0@" in _page(port, "workers?refresh=1"))
        if str(deployment.settings.broker_url).startswith("rediss"):  # that of RabbitMQ is another server's to tell
            wait_for(lambda: QUEUES[0] in _page(port, "queues/length"))
    finally:
        flower.terminate()
        flower.wait(20)
    assert not SECRETS.search(log.read_text(errors="replace"))


def _page(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for the same name, of a CA that signed none of the servers' certificates."""
    return make_certificate(tmp_path_factory.mktemp("other"))


@pytest.mark.parametrize("trouble", ["another CA", "another name"])
@pytest.mark.parametrize("service", ["database", "redis", "rabbitmq"])
def test_a_client_refuses_a_certificate_that_it_cannot_verify(
    service: str, trouble: str, address: Address, other: Certificate, tmp_path: Path
) -> None:
    """A server whose certificate is of another CA, or for another name, is refused at once: the error says why."""
    wrong = address(service, ca=other.ca) if trouble == "another CA" else address(service, host="127.0.0.1")
    changed = {"database_url" if service == "database" else "broker_url": wrong}
    pipeline = IngestionPipeline("refused", [Embed("hashed")], settings=settings_of(address, tmp_path, **changed))
    started = time.monotonic()
    with pytest.raises(ServiceUnreachable) as caught:
        pipeline.enqueue(corpus(1))
    assert time.monotonic() - started < 10
    assert any(reason in str(caught.value) for reason in REFUSED)
    assert not SECRETS.search(str(caught.value))


@pytest.mark.parametrize("service", ["database", "broker", "result", "cache"])
def test_doctor_names_the_service_whose_certificate_is_wrong(
    service: str, address: Address, other: Certificate, tmp_path: Path
) -> None:
    """`docmill doctor` says of which service the certificate is not to be trusted, and gives no password away."""
    wrong = {
        "database": address("database", ca=other.ca),
        "broker": address("redis", ca=other.ca),
        "result": address("redis", ca=other.ca),
        "cache": address("cache", ca=other.ca),
    }
    settings = settings_of(address, tmp_path, **{f"{service}_url": wrong[service]})
    connections = Connections(settings)
    findings = {finding.name: finding for finding in checkup(connections)}
    connections.close()
    found = findings["results" if service == "result" else service]
    assert not found.ok
    assert any(reason in found.message for reason in REFUSED)
    assert "localhost" in found.message
    assert not SECRETS.search(str(findings))


@pytest.mark.parametrize("service", ["redis", "rabbitmq"])
def test_a_worker_refuses_a_broker_that_it_cannot_verify(
    service: str, address: Address, other: Certificate, tmp_path: Path
) -> None:
    """A worker takes no work from a broker whose certificate is wrong, says why, and comes in once it is right."""
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(other.ca.read_bytes())
    settings = settings_of(address, tmp_path, broker_url=address(service, ca=trusted))
    worker = Worker(settings, tmp_path / "worker.log", concurrency=1, environment={}, python=Path(sys.executable))
    try:
        wait_for(lambda: REFUSED[0] in worker.log.read_text(errors="replace"))
        assert worker.process.poll() is None
        trusted.write_bytes(other.ca.read_bytes() + address.ca.read_bytes())
        client = Deployment(settings, tmp_path)
        report = client.wait(client.pipeline(f"mended-{service}").enqueue(corpus(1)))
        client.close()
        assert report.state is JobState.SUCCEEDED
    finally:
        worker.stop()
    assert not SECRETS.search(worker.log.read_text(errors="replace"))


@pytest.mark.parametrize("service", ["database", "rabbitmq"])
def test_docmill_worker_does_not_start_on_a_wrong_certificate(
    service: str, address: Address, other: Certificate, tmp_path: Path
) -> None:
    """`docmill worker` ends at once, with the reason and without a password."""
    name = "database_url" if service == "database" else "broker_url"
    settings = settings_of(address, tmp_path, **{name: address(service, ca=other.ca)})
    ended = run_docmill(["worker", "-c", "1"], worker_environment(settings))
    assert ended.returncode == 1
    assert REFUSED[0] in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not SECRETS.search(ended.stderr + ended.stdout)


@pytest.mark.parametrize("service", ["database", "redis", "rabbitmq"])
def test_a_wrong_password_is_refused_and_not_repeated(service: str, address: Address, tmp_path: Path) -> None:
    """The servers behind the encryption do ask for the password; the error shows no password, right or wrong."""
    wrong = re.sub(SECRETS, "not-the-password", address(service))
    changed = {"database_url" if service == "database" else "broker_url": wrong}
    pipeline = IngestionPipeline("refused", [Embed("hashed")], settings=settings_of(address, tmp_path, **changed))
    with pytest.raises(ServiceUnreachable) as caught:
        pipeline.enqueue(corpus(1))
    assert "not-the-password" not in str(caught.value)


def test_verification_is_switched_off_by_a_word_alone(address: Address, other: Certificate, tmp_path: Path) -> None:
    """`ssl_cert_reqs=none` takes any certificate, for any name, on Redis and RabbitMQ; nothing else does."""
    for service in ("redis", "rabbitmq"):
        lax = address(service, ca=other.ca, host="127.0.0.1").replace("ssl_cert_reqs=required&", "")
        connections = Connections(settings_of(address, tmp_path, broker_url=f"{lax}&ssl_cert_reqs=none"))
        connections.check_broker()
        connections.close()
        connections = Connections(settings_of(address, tmp_path, broker_url=lax))
        with pytest.raises(ServiceUnreachable, match=REFUSED[0]):
            connections.check_broker()
        connections.close()
