"""Faults of services and of the network between them, and of what they deliver."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.chaos.proxy import Proxy
from tests.chaos.stack import Stack
from tests.chaos.trial import Broker, Fault, Trial
from tests.chaos.twice import MODULE, send_everything_twice
from tests.chaos.workers import kill_process

__all__ = ["SERVICE_FAULTS", "random_kills"]

_DOWN_SECONDS = 2.0  # a server is away for so long
_CUT_SECONDS = 20.0
_FULL_SECONDS = 10.0
_DISK_BYTES = 160 * 1024 * 1024
_BETWEEN_KILLS = (0.2, 2.0)  # seconds, at random
_DOCUMENTS_A_KILL = 25


def _restart_redis(trial: Trial) -> None:
    trial.begin()
    trial.stack.kill_redis()
    time.sleep(_DOWN_SECONDS)
    trial.stack.redis.start()


def _flush(trial: Trial) -> None:
    trial.begin()
    trial.stack.flush_redis()


def _restart_rabbitmq(trial: Trial) -> None:
    trial.begin()
    assert trial.stack.rabbitmq is not None
    trial.stack.rabbitmq.kill()
    trial.stack.rabbitmq.start()


def _restart_postgres(trial: Trial) -> None:
    trial.begin()
    trial.stack.stop_postgres_immediately()
    time.sleep(_DOWN_SECONDS)
    trial.stack.postgres.start()


def _cut(links: Callable[[Stack], list[Proxy]], how: Callable[[Proxy], None]) -> Callable[[Trial], None]:
    def inflict(trial: Trial) -> None:
        trial.begin()
        for link in links(trial.stack):
            how(link)
        time.sleep(_CUT_SECONDS)
        for link in links(trial.stack):
            link.heal()

    return inflict


def _broker_links(stack: Stack) -> list[Proxy]:
    return stack.broker_links


def _database_links(stack: Stack) -> list[Proxy]:
    return [stack.database_link]


def _fill_disk(trial: Trial) -> None:
    trial.begin()
    assert trial.stack.disk is not None
    filler = trial.stack.disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 65536)
    time.sleep(_FULL_SECONDS)
    filler.unlink()
    # Without room for its log Postgres may have given up; whoever frees the disk starts it again.
    trial.stack.postgres.start()


def _cannot_mount() -> str | None:
    if os.geteuid() != 0 or sys.platform != "linux":
        return "a disk of its own takes root on Linux"
    target = Path("/proc/self/mounts")
    return None if "tmpfs" in target.read_text() else "no tmpfs here"


def _send_twice(trial: Trial) -> None:
    with send_everything_twice():
        trial.begin()


def _sending_twice(stack: Stack) -> list[dict[str, str]]:
    modules = ",".join((*stack.worker_settings.modules, MODULE))
    return [{"DOCMILL_MODULES": modules}, {"DOCMILL_MODULES": modules}]


def random_kills(count: int) -> Fault:
    """So many kills, of whatever the seed says, in one long job."""

    def inflict(trial: Trial) -> None:
        trial.begin(share=0.01)
        for done in range(count):
            if trial.is_over():
                raise AssertionError(f"the job was over after {done} of {count} kills")
            _kill_something(trial)
            time.sleep(trial.rng.uniform(*_BETWEEN_KILLS))

    description = f"{count} kills, of workers, their children and servers, in one long job"
    return Fault("random-kills", description, inflict, documents=_DOCUMENTS_A_KILL * count)


def _kill_something(trial: Trial) -> None:
    stack, worker = trial.stack, trial.rng.choice(trial.stack.workers)
    kind = trial.rng.choices(("child", "main", "machine", "redis", "postgres"), (50, 20, 14, 8, 8))[0]
    if kind == "child" and (children := worker.children):
        kill_process(trial.rng.choice(children))
    elif kind == "main" and (main := worker.main) is not None:
        kill_process(main)
    elif kind == "machine":
        worker.kill()
    elif kind == "redis":
        stack.kill_redis()
        stack.redis.start()
    elif kind == "postgres":
        stack.kill_postgres()
        stack.postgres.start()


SERVICE_FAULTS = (
    Fault("redis-restart", "kill -9 of Redis, started again with its log (AOF)", _restart_redis),
    Fault("redis-restart-empty", "kill -9 of Redis, started again without a log: empty", _restart_redis, aof=False),
    Fault("flushall", "FLUSHALL in the middle of a job", _flush),
    Fault("rabbitmq-restart", "kill -9 of RabbitMQ, started again", _restart_rabbitmq, brokers=(Broker.RABBITMQ,)),
    Fault("postgres-restart", "Postgres stopped in immediate mode, and started again", _restart_postgres),
    Fault(
        "broker-cut-silent",
        "20 s without network between workers and broker: nothing arrives",
        _cut(_broker_links, Proxy.silence),
        proxied=True,
    ),
    Fault(
        "broker-cut-refused",
        "20 s without network between workers and broker: connections break",
        _cut(_broker_links, Proxy.refuse),
        proxied=True,
    ),
    Fault(
        "database-cut-silent",
        "20 s without network between workers and database: nothing arrives",
        _cut(_database_links, Proxy.silence),
        proxied=True,
    ),
    Fault(
        "database-cut-refused",
        "20 s without network between workers and database: connections break",
        _cut(_database_links, Proxy.refuse),
        proxied=True,
    ),
    Fault(
        "disk-full",
        "the database's disk is full for 10 s",
        _fill_disk,
        unable=_cannot_mount,
        disk_bytes=_DISK_BYTES,
    ),
    Fault("delivered-twice", "every message is delivered twice", _send_twice, environment=_sending_twice),
)
