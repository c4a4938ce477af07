"""One trial: a job under way, one fault, and what is left of both."""

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy.exc import SQLAlchemyError

from orchestrator import Document, Job, JobState
from orchestrator.contracts.errors import DocmillError
from orchestrator.contracts.report import TERMINAL_JOB_STATES
from tests.chaos.judge import Judgement, judge
from tests.chaos.stack import Stack

__all__ = ["CORPUS", "DOCUMENT_SECONDS", "LONG_CORPUS", "Broker", "Fault", "Result", "Trial", "corpus", "run_trial"]

CORPUS = 150  # documents of a trial
LONG_CORPUS = 600  # for what takes its time
DOCUMENT_SECONDS = 0.1  # a document takes so long: on four processes, a job of four seconds
_END_SECONDS = 150.0  # a job that has not ended so long after the fault hangs
_LOOK_SECONDS = 0.05
_STOP_SECONDS = 5.0
_AFTERWARDS_SECONDS = 40.0  # a message that went to a worker on its way out is sent again after 10


class Broker(StrEnum):
    """Which server carries the messages."""

    REDIS = "redis"
    RABBITMQ = "rabbitmq"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        inflict: does it to a job under way; returns once it is healed.
        brokers: those with which it makes a difference.
        unable: why it cannot be tried on this machine; None if it can.
        aof, disk_bytes, proxied: the stack it needs.
        environment: variables of each worker.
        documents: of the corpus.
    """

    name: str
    description: str
    inflict: "Callable[[Trial], None]"
    brokers: tuple[Broker, ...] = tuple(Broker)
    unable: Callable[[], str | None] = lambda: None
    aof: bool = True
    disk_bytes: int | None = None
    proxied: bool = False
    environment: "Callable[[Stack], list[dict[str, str]]]" = lambda stack: [{}, {}]
    documents: int = CORPUS


@dataclass(frozen=True, slots=True)
class Result:
    """What a trial showed."""

    fault: str
    broker: Broker
    jobs: dict[str, JobState]
    judgement: Judgement | None  # None: a job did not end
    seconds: float  # from the moment the fault was healed to the end of the last job
    notes: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Every job has ended, nothing is lost or copied, and ledger and store agree."""
        return self.judgement is not None and self.judgement.is_clean and not self.notes


@dataclass
class Trial:
    """What a fault may use: the stack, the job under way, and its own random numbers."""

    stack: Stack
    rng: random.Random
    documents: list[Document]
    jobs: list[Job] = field(default_factory=list)
    doomed: set[str] = field(default_factory=set)  # jobs whose client dies: these end as failed

    def enqueue(self) -> Job:
        """Ingest the corpus."""
        job = self.stack.pipeline(DOCUMENT_SECONDS).enqueue(self.documents)
        self.jobs.append(job)
        return job

    def begin(self, share: float = 0.2) -> Job:
        """Ingest the corpus, and wait until so much of it is committed."""
        job = self.enqueue()
        self.wait_for(lambda: job.progress.settled >= share * len(self.documents))
        return job

    def is_over(self) -> bool:
        """Every job has ended, as far as the ledger can be asked."""
        try:
            return all(job.state in TERMINAL_JOB_STATES for job in self.jobs)
        except (DocmillError, SQLAlchemyError):
            return False

    @staticmethod
    def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for what another process makes true.

        Raises:
            TimeoutError: it did not.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the trial's condition did not hold within {seconds:.0f} s")
            time.sleep(_LOOK_SECONDS)


def corpus(count: int) -> list[Document]:
    """Documents of 2 to 4 KB, each with words of its own; the same in every run."""
    rng = random.Random(count)  # noqa: S311
    return [
        Document(id=f"doc{number:04}", text=f"Document {number} tells of subject {number % 17}. " * rng.randint(50, 99))
        for number in range(count)
    ]


def run_trial(fault: Fault, broker: Broker, stack: Stack, expected: frozenset[tuple[str, str]], seed: str) -> Result:
    """Run a job, break something, and see."""
    trial = Trial(stack, random.Random(seed), corpus(fault.documents))  # noqa: S311
    for environment in fault.environment(stack):
        stack.start_worker(environment)
    stack.wait_for_workers()
    notes = []
    try:
        fault.inflict(trial)
    except (AssertionError, TimeoutError, LookupError, DocmillError, SQLAlchemyError) as error:
        notes = [f"the fault could not be inflicted: {error!r}"]  # what it met is a finding too
    healed = time.monotonic()
    with suppress(TimeoutError):
        trial.wait_for(trial.is_over, _END_SECONDS)
    seconds = time.monotonic() - healed
    over = trial.is_over()
    if not over:
        notes += [f"a job did not end within {_END_SECONDS:.0f} s", *_explain(trial)]
    states = {job.id: job.state for job in trial.jobs}
    expected_states = {id: JobState.FAILED if id in trial.doomed else JobState.SUCCEEDED for id in states}
    notes += [f"job {id} is {state}" for id, state in states.items() if over and state is not expected_states[id]]
    notes += [f"{row.document_id}: {row.error}: {row.message}" for job in trial.jobs for row in job.failures(3)]
    judgement = judge(stack, expected) if over else None
    if over:
        notes += _afterwards(trial)
    return Result(fault.name, broker, states, judgement, seconds, tuple(notes))


def _afterwards(trial: Trial) -> list[str]:
    """What is wrong with one of the workers, left alone: it may have survived, and work no more."""
    survivor = trial.rng.choice(trial.stack.workers)
    for worker in trial.stack.workers:
        if worker is not survivor:
            worker.supervisor.stop(timeout=_STOP_SECONDS)
    job = trial.stack.pipeline(0.0).enqueue([Document(id="afterwards", text="One more document.")])
    try:
        job.wait(_AFTERWARDS_SECONDS)
    except TimeoutError as error:
        return [f"a worker that survived works no more: {error}", survivor.log()]
    return []


def _explain(trial: Trial) -> list[str]:
    found = [f"{job.id}: {dict(job.progress.batches)} {job.progress.reasons}" for job in trial.jobs]
    if "DOCMILL_CHAOS_LOGS" in os.environ:
        found += [worker.log() for worker in trial.stack.workers]
    return found
