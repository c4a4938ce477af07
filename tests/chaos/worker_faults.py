"""Faults of processes: workers and clients that die, freeze, are told to go, or live in another time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from orchestrator import Job
from orchestrator.ledger import jobs
from orchestrator.ledger.engine import begin
from orchestrator.runtime import worker_environment
from tests.chaos.faketime import MODULE
from tests.chaos.stack import Stack
from tests.chaos.trial import LONG_CORPUS, Fault, Trial
from tests.chaos.workers import kill_process

__all__ = ["WORKER_FAULTS"]

_ROOT = Path(__file__).parents[2]
_FROZEN_SECONDS = 20.0  # longer than a lease lives without a heartbeat
_JUMP_SECONDS = 4.0  # longer than the worker takes between two looks for what has stalled
_SLICE_DOCUMENTS = 20  # of the client that is killed: it shall have sent something before it dies
_FAKETIME = (
    Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"),
    Path("/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"),
)


def _kill_main(trial: Trial) -> None:
    trial.begin()
    main = trial.rng.choice(trial.stack.workers).main
    assert main is not None, "the worker has no main process"
    kill_process(main)


def _kill_child(trial: Trial) -> None:
    trial.begin()
    kill_process(trial.rng.choice(trial.rng.choice(trial.stack.workers).children))


def _kill_machine(trial: Trial) -> None:
    trial.begin()
    trial.rng.choice(trial.stack.workers).kill()


def _kill_client(trial: Trial) -> None:
    connections = trial.stack.connections
    slices = {"DOCMILL_SLICE_DOCUMENTS": str(_SLICE_DOCUMENTS)}
    client = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.client", str(len(trial.documents))],
        env={**os.environ, **worker_environment(trial.stack.settings), **slices},
        cwd=_ROOT,
    )

    def has_sent() -> bool:
        with begin(connections.engine) as connection:
            return any(Job(connections, job.id).progress.seen > _SLICE_DOCUMENTS for job in jobs.recent(connection))

    trial.wait_for(has_sent)
    client.kill()
    client.wait()
    with begin(connections.engine) as connection:
        (orphan,) = jobs.recent(connection)
    trial.doomed.add(orphan.id)
    trial.jobs.append(Job(connections, orphan.id))
    trial.enqueue()


def _kill_everything(trial: Trial) -> None:
    trial.begin()
    stack = trial.stack
    for worker in stack.workers:
        worker.kill()
    stack.kill_redis()
    stack.kill_postgres()
    if stack.rabbitmq is not None:
        stack.rabbitmq.kill()
        stack.rabbitmq.start()
    stack.redis.start()
    stack.postgres.start()


def _restart_workers(trial: Trial) -> None:
    trial.begin()
    for worker in trial.stack.workers:
        before = worker.guard
        worker.tell(signal.SIGTERM)
        trial.wait_for(lambda worker=worker, before=before: worker.guard not in (None, before))  # type: ignore[misc]
        trial.wait_for(lambda worker=worker: len(worker.children) >= 2)  # type: ignore[misc]


def _freeze_worker(trial: Trial) -> None:
    trial.begin()
    worker = trial.rng.choice(trial.stack.workers)
    frozen = worker.freeze()
    time.sleep(_FROZEN_SECONDS)
    worker.thaw(frozen)


def _jump_clock(trial: Trial) -> None:
    trial.begin()
    for hours in (1, -1):
        _clock(trial.stack).write_text(f"{hours * 3600:+d}")
        time.sleep(_JUMP_SECONDS)


def _clock(stack: Stack) -> Path:
    return stack.home / "clock"


def _in_another_time(stack: Stack) -> list[dict[str, str]]:
    """One worker whose clock is read from a file, and one with the machine's."""
    _clock(stack).write_text("+0")
    library = next(path for path in _FAKETIME if path.exists())
    fake = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(_clock(stack)),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DOCMILL_MODULES": ",".join((*stack.worker_settings.modules, MODULE)),
    }
    return [fake, {}]


def _without_faketime() -> str | None:
    return None if any(path.exists() for path in _FAKETIME) else "libfaketime is missing: apt-get install faketime"


WORKER_FAULTS = (
    Fault("worker-main", "kill -9 of a worker's main process", _kill_main),
    Fault("worker-child", "kill -9 of a process that runs batches", _kill_child),
    Fault("worker-machine", "kill -9 of a worker with all its processes", _kill_machine),
    Fault("client", "kill -9 of the client while it enqueues; then the same is ingested again", _kill_client),
    Fault("whole-stack", "kill -9 of workers, broker and database at once", _kill_everything),
    Fault("rolling-restart", "SIGTERM for every worker in turn, under load", _restart_workers, documents=LONG_CORPUS),
    Fault(
        "frozen-worker",
        "a worker stops for 20 s and goes on: two run the same batches",
        _freeze_worker,
        documents=LONG_CORPUS,
    ),
    Fault(
        "clock-jump",
        "a worker's clock jumps an hour ahead, then an hour back",
        _jump_clock,
        unable=_without_faketime,
        documents=LONG_CORPUS,
        environment=_in_another_time,
    ),
)
