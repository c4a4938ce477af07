"""The supervisor with real processes: restarts, stops, and nothing left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.embedded import Supervisor
from orchestrator.embedded.processes import is_alive, stop_process, wait_until

pytestmark = pytest.mark.integration

_SECONDS = 10.0  # for what takes a moment, on a busy machine

# Writes its own number and that of a child, as a worker with a pool has one; then waits.
_WORKER = 'sleep 600 & echo $$ $! >> "$PIDS"; wait'
# Waits whatever it is told.
_STUBBORN_WORKER = 'trap "" TERM; sleep 600 & echo $$ $! >> "$PIDS"; while :; do wait; done'


class Workers:
    """What workers wrote of themselves: the two processes of each start, oldest first."""

    def __init__(self, folder: Path) -> None:
        self.environment = {"PIDS": str(folder / "pids")}
        self._path = folder / "pids"

    def pairs(self) -> list[tuple[int, int]]:
        """(worker, its child) for each start so far."""
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [(int(worker), int(child)) for worker, child in (line.split() for line in lines)]

    def wait(self, starts: int) -> list[tuple[int, int]]:
        """The same, once there are so many."""
        assert wait_until(lambda: len(self.pairs()) >= starts, _SECONDS)
        return self.pairs()

    def all_gone(self) -> bool:
        """No worker and no child of one runs; a killed one needs an instant to go."""
        pids = [pid for pair in self.pairs() for pid in pair]
        return wait_until(lambda: not any(is_alive(pid) for pid in pids), _SECONDS)


@pytest.fixture
def workers(tmp_path: Path) -> Workers:
    """Where the workers of a test write their numbers."""
    return Workers(tmp_path)


def test_processes_run_each_in_its_own_session_and_stop_together(workers: Workers) -> None:
    """`count` processes run at once, each in a session of its own; after `stop` none is left, nor a child of one."""
    supervisor = Supervisor(["sh", "-c", _WORKER], environment=workers.environment, count=3)
    with supervisor:
        pairs = workers.wait(3)
        assert len(supervisor.pids) == 3
        sessions = {os.getsid(worker) for worker, _ in pairs}
        assert sessions == set(supervisor.pids)
        assert os.getsid(0) not in sessions
    assert workers.all_gone()
    assert supervisor.pids == []
    assert supervisor.restarts == 0


def test_killed_process_is_started_again_and_its_children_are_gone(workers: Workers) -> None:
    """A worker killed by -9 is replaced, and the children it left behind are killed; its neighbour is not touched."""
    with Supervisor(["sh", "-c", _WORKER], environment=workers.environment, count=2) as supervisor:
        (killed, orphan), (neighbour, _) = workers.wait(2)
        os.kill(killed, signal.SIGKILL)
        pairs = workers.wait(3)
        assert wait_until(lambda: not is_alive(orphan), _SECONDS)
        assert is_alive(neighbour)
        assert is_alive(pairs[2][0])
        assert supervisor.restarts == 1
        assert len(supervisor.pids) == 2
    assert workers.all_gone()


def test_killed_group_is_started_again(workers: Workers) -> None:
    """A whole process group killed by -9, guard and all, is replaced too."""
    with Supervisor(["sh", "-c", _WORKER], environment=workers.environment, count=1) as supervisor:
        workers.wait(1)
        os.killpg(supervisor.pids[0], signal.SIGKILL)
        workers.wait(2)
        assert supervisor.restarts == 1
    assert workers.all_gone()


def test_process_that_keeps_dying_is_restarted_ever_more_slowly(tmp_path: Path) -> None:
    """The pause before a restart is half a second, and doubles while the process dies at once."""
    log = tmp_path / "times"
    program = "import os, time; open(os.environ['LOG'], 'a').write(f'{time.monotonic()}\\n')"
    with Supervisor([sys.executable, "-c", program], environment={"LOG": str(log)}, count=1):
        assert wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 3, _SECONDS)
    first, second, third = [float(line) for line in log.read_text().splitlines()[:3]]
    assert second - first >= 0.5
    assert third - second >= 1.0


def test_stop_asks_by_sigterm_first(tmp_path: Path) -> None:
    """A worker gets SIGTERM once, and the time to finish what it holds."""
    program = 'trap "echo finished; exit 0" TERM; echo started; while :; do sleep 0.05; done'
    supervisor = Supervisor(["sh", "-c", program], environment={}, count=1, log_dir=tmp_path / "logs")
    log = tmp_path / "logs" / "worker-1.log"
    with supervisor:
        assert wait_until(lambda: log.exists() and log.read_text() == "started\n", _SECONDS)
    assert log.read_text() == "started\nfinished\n"


def test_stop_kills_what_does_not_stop_in_time(workers: Workers) -> None:
    """A worker that ignores SIGTERM is killed with its children when the time is up."""
    supervisor = Supervisor(["sh", "-c", _STUBBORN_WORKER], environment=workers.environment, count=1)
    supervisor.start()
    workers.wait(1)
    supervisor.stop(timeout=0.3)
    assert workers.all_gone()


def test_each_process_has_its_log(tmp_path: Path) -> None:
    """What the processes say, on both streams, goes to a file for each."""
    program = 'echo "$GREETING"; echo error >&2; exec sleep 600'
    with Supervisor(["sh", "-c", program], environment={"GREETING": "hello"}, count=2, log_dir=tmp_path):
        logs = [tmp_path / "worker-1.log", tmp_path / "worker-2.log"]
        said = "hello\nerror\n"
        assert wait_until(lambda: all(log.exists() and log.read_text() == said for log in logs), _SECONDS)


_SUPERVISING = """
import os, signal, sys
from orchestrator.embedded import Supervisor
with Supervisor(["sh", "-c", sys.argv[1]], environment={}, count=2):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("program", [_WORKER, _STUBBORN_WORKER], ids=["willing", "stubborn"])
def test_no_process_outlives_a_supervisor_that_was_killed(workers: Workers, program: str) -> None:
    """After kill -9 of the supervising process all workers are gone in seconds, though a fork of it lives on."""
    command = [sys.executable, "-c", _SUPERVISING, program]
    environment = {**os.environ, **workers.environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        fork = int(process.stdout.readline())
        try:
            workers.wait(2)
            process.kill()
            assert workers.all_gone()
        finally:
            process.kill()
            stop_process(fork, timeout=1)


def test_program_that_is_not_there_is_refused() -> None:
    """A command that names no program is refused at once, not restarted for ever."""
    with pytest.raises(ConfigurationError, match="no-such-program"):
        Supervisor(["no-such-program"], environment={}, count=1)


def test_count_below_one_is_refused() -> None:
    """Less than one process is a mistake, and the message says what is allowed."""
    with pytest.raises(ConfigurationError, match="1 or more"):
        Supervisor(["sh"], environment={}, count=0)
