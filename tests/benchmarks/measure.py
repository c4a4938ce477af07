"""One turn of one subject: cold, nothing changed, 1 % edited, with all meters running."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.runtime import worker_environment
from tests.benchmarks.checking import node_problem
from tests.benchmarks.corpus import Corpus
from tests.benchmarks.metering import MemoryMeter, cpu_seconds
from tests.benchmarks.stack import Database, Stack, warm_deployment
from tests.benchmarks.stages import stages_of
from tests.benchmarks.subjects import Subject
from workers.tokens.vocabulary import ensure_vocabulary

__all__ = ["MODES", "Measurement", "WrongOutput", "measure"]

MODES = ("cold", "warm", "edited")
_ROOT = Path(__file__).parents[2]
_STOP_SECONDS = 30


class WrongOutput(Exception):
    """A subject did not do the work, so it has no time."""


@dataclass(slots=True)
class Measurement:
    """One run of one subject. Seconds and bytes.

    Attributes:
        seconds: as the subject's program sees it, start-up excluded.
        cpu: processor time of the program, its workers and all servers.
        cpu_parts: the same by group: `program`, and where there are any `workers`, `postgres`, `redis` (both servers).
        memory: peaks of `program` (with its workers), and for docmill `redis` and `cache`.
        load: processes that wanted a core just before, by the system's average of a minute.
        nodes: stored when it had ended.
        stages: docmill's.
    """

    subject: str
    mode: str
    seconds: float
    cpu: float
    cpu_parts: dict[str, float]
    memory: dict[str, int]
    load: float
    nodes: int
    stages: dict[str, float] = field(default_factory=dict)

    def as_facts(self) -> dict[str, Any]:
        """For the results."""
        return asdict(self)


def measure(
    subject: Subject,
    corpus: Corpus,
    stack: Stack,
    *,
    workers: int = 2,
    modes: Sequence[str] = MODES,
    check: bool = True,
    say_pids: bool = False,
) -> list[Measurement]:
    """Let a subject ingest the corpus once for each mode, from an empty database.

    Raises:
        NotInstalled: the subject cannot be had here.
        WrongOutput: what it stored is not what it should have.
    """
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="docmill-bench-")))
        database = opened.enter_context(stack.database())
        environment = {"PYTHONPATH": str(_ROOT), "COCOINDEX_DISABLE_USAGE_TRACKING": "1"}
        environment["COCOINDEX_DB"] = str(folder / "cocoindex")
        environment["TIKTOKEN_CACHE_DIR"] = str(ensure_vocabulary("cl100k_base").parent)
        pids = []
        if subject.ours:
            stack.fresh_redis()
            settings = stack.settings(database, folder / "home")
            environment |= worker_environment(settings)
            deployment = opened.enter_context(warm_deployment(settings, folder / "home", workers, subject.python()))
            pids = [worker.process.pid for worker in deployment.workers]
        program = opened.enter_context(_program(subject, corpus, database, environment, folder))
        turn = _Turn(subject, corpus, stack, database, program, pids, workers, check)
        if say_pids:
            print(f"{subject.name}: program {program.pid}, workers {pids}", flush=True)  # noqa: T201 - for a profiler
        return [turn.run(mode) for mode in modes]


@dataclass(frozen=True, slots=True)
class _Turn:
    subject: Subject
    corpus: Corpus
    stack: Stack
    database: Database
    program: subprocess.Popen[str]
    worker_pids: list[int]
    workers: int
    check: bool

    def run(self, mode: str) -> Measurement:
        with ExitStack() as opened:
            if mode == "edited":
                opened.callback(self.corpus.restore, self.corpus.edit())
            return self._measured(mode)

    def _measured(self, mode: str) -> Measurement:
        program = [self.program.pid]
        served = {"program": program, "postgres": [self.stack.postgres_pid]}
        if self.subject.ours:
            served |= {"workers": self.worker_pids, "redis": self.stack.redis_pids}
        self.stack.checkpoint()
        load = os.getloadavg()[0]
        with MemoryMeter([*program, *self.worker_pids]) as memory:
            before = {name: cpu_seconds(pids) for name, pids in served.items()}
            facts = _ask(self.program)
            cpu = {name: cpu_seconds(pids) - before[name] for name, pids in served.items()}
        peaks = {"program": memory.peak} | (self.stack.redis_peaks() if self.subject.ours else {})
        found = self._checked(mode, facts)
        stages = {}
        if self.subject.ours:
            stages = stages_of(
                self.database,
                facts["job"],
                seconds=facts["seconds"],
                ended_at=facts["ended_at"],
                workers=self.workers,
            ).as_facts()
        return Measurement(
            self.subject.name, mode, facts["seconds"], sum(cpu.values()), cpu, peaks, load, found, stages
        )

    def _checked(self, mode: str, facts: dict[str, Any]) -> int:
        """The number of nodes, if they are right."""
        nodes = self.database.rows(self.subject.nodes)
        problem = node_problem(nodes, self.corpus.texts()) if self.check and mode != "warm" else None
        expected = {"cold": self.corpus.documents, "warm": 0, "edited": self.corpus.edited_documents}[mode]
        if "changed" in facts and facts["changed"] != expected:
            problem = f"{facts['changed']} documents were ingested, and {expected} are new or changed: {facts}"
        if problem:
            raise WrongOutput(f"{self.subject.name}, {mode}: {problem}")
        return len(nodes)


@contextmanager
def _program(
    subject: Subject, corpus: Corpus, database: Database, environment: dict[str, str], folder: Path
) -> Iterator[subprocess.Popen[str]]:
    """The subject's program, loaded and waiting."""
    arguments = [str(corpus.folder), database.address, *subject.arguments]
    command = [str(subject.python()), "-m", f"tests.benchmarks.programs.{subject.program}", *arguments]
    log = folder / "program.log"
    with log.open("w") as errors:
        program = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        _answer(program)
        yield program
    except _Ended as error:
        raise WrongOutput(f"{subject.name} ended: {log.read_text()[-2000:]}") from error
    finally:
        assert program.stdin is not None
        program.stdin.close()
        try:
            program.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


class _Ended(Exception):
    """The program said nothing more."""


def _ask(program: subprocess.Popen[str]) -> dict[str, Any]:
    assert program.stdin is not None
    print("ingest", file=program.stdin, flush=True)
    return _answer(program)


def _answer(program: subprocess.Popen[str]) -> dict[str, Any]:
    assert program.stdout is not None
    line = program.stdout.readline()
    if not line:
        raise _Ended
    answer: dict[str, Any] = json.loads(line)
    return answer
