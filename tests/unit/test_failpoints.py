"""Failpoints: nothing without their variable; with it, what it says at the hit it says, over all processes."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.contracts import failpoints
from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.failpoints import DIR_VARIABLE, FAILPOINTS, VARIABLE, FailpointReached, failpoint

_ROOT = Path(__file__).parents[2]
_CALL = re.compile(r'failpoint\("([\w.]+)"\)')


@pytest.fixture(autouse=True)
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not come by a failpoint yet."""
    monkeypatch.setattr(failpoints, "_armed", None)


def _reach(value: str, folder: Path, count: int = 1) -> int:
    """Exit status of a process that comes by a failpoint so many times."""
    code = "from orchestrator.contracts.failpoints import failpoint\n" + 'failpoint("commit.written")\n' * count
    environment = {VARIABLE: value, DIR_VARIABLE: str(folder)}
    return subprocess.run([sys.executable, "-c", code], env=environment, cwd=_ROOT, check=False).returncode


def test_every_failpoint_stands_at_one_place() -> None:
    """Each name of the list is called at exactly one place of the flow, and no other name is."""
    sources = [path for room in ("orchestrator", "workers") for path in (_ROOT / room).rglob("*.py")]
    called = [name for path in sources for name in _CALL.findall(path.read_text(encoding="utf-8"))]
    assert sorted(called) == sorted(FAILPOINTS)


def test_nothing_happens_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable a failpoint does nothing, and the environment is read once."""
    for name in FAILPOINTS:
        failpoint(name)
    monkeypatch.setenv(VARIABLE, "commit.written=raise")
    failpoint("commit.written")


def test_only_the_named_failpoint_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failpoint that has an action acts at every hit, and the others do nothing."""
    monkeypatch.setenv(VARIABLE, " commit.written=raise , commit.claimed=sleep:0 ")
    failpoint("commit.fetched")
    failpoint("commit.claimed")
    for _ in range(2):
        with pytest.raises(FailpointReached, match=r"commit\.written"):
            failpoint("commit.written")


@pytest.mark.parametrize(
    ("action", "status"), [("exit", 86), ("kill", -signal.SIGKILL), ("raise", 1), ("sleep:0.01", 0)]
)
def test_action_ends_the_process_as_it_says(action: str, status: int, tmp_path: Path) -> None:
    """The process exits, is killed, sees an error, or goes on after a while."""
    assert _reach(f"commit.written={action}", tmp_path) == status


def test_hits_are_counted_over_all_processes(tmp_path: Path) -> None:
    """Only the hit that is named acts, whichever process makes it, and the file says how many there were."""
    assert [_reach("commit.written=exit@4", tmp_path, 3) for _ in range(3)] == [0, 86, 0]
    assert (tmp_path / "commit.written").stat().st_size == 3 + 1 + 3


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("commit.witten=kill", ["'commit.witten'", "commit.written", "transform.leased"]),
        ("commit.written", ["'commit.written'", "NAME=ACTION"]),
        ("commit.written=explode", ["explode", "kill_group"]),
        ("commit.written=kill@0", ["kill@0", "count from 1"]),
        ("commit.written=sleep", ["sleep:SECONDS"]),
        ("commit.written=kill@1", ["DOCMILL_FAILPOINTS_DIR is not set"]),
    ],
)
def test_wrong_variable_is_an_error(monkeypatch: pytest.MonkeyPatch, value: str, words: list[str]) -> None:
    """An unknown name or action, or a count without a folder, is an error that says what there is."""
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ConfigurationError) as caught:
        failpoint("commit.fetched")
    for word in words:
        assert word in str(caught.value)
