"""How a worker's children end."""

import subprocess
import sys

import pytest

_ENDING = """
import sys
import billiard.pool
from workers.child_exit import end_children_at_once

end_children_at_once()
billiard.pool.time.sleep = lambda seconds: print("slept", flush=True)

class Told:
    def put(self, message):
        print("told", message[1][1], flush=True)

worker = billiard.pool.Worker.__new__(billiard.pool.Worker)
worker.on_exit = lambda pid, exitcode: print("receivers heard", exitcode, flush=True)
worker.outq = Told()
worker._do_exit(1, *eval(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("ended", "said", "code"),
    [
        ((None, None), ["receivers heard 0"], 0),
        ((0, None), ["receivers heard 0"], 0),
        ((155, None), ["receivers heard 155", "told 155", "slept"], 155),
        ((None, "an error"), ["receivers heard 1", "told 1", "slept"], 1),
    ],
    ids=["asked to go", "ended well", "to be replaced", "broken"],
)
def test_only_a_child_that_was_not_asked_to_go_tells_of_its_end(
    ended: tuple[object, object], said: list[str], code: int
) -> None:
    """A child that was asked to go ends once the signal's receivers have heard; any other tells the main process."""
    child = subprocess.run([sys.executable, "-c", _ENDING, repr(ended)], capture_output=True, text=True, check=False)
    assert (child.stdout.splitlines(), child.returncode) == (said, code), child.stderr
