"""Runs a command that must not outlive the process which started it: `python guard.py COMMAND ARGUMENT…`.

Standard input is the lifeline: a pipe whose other end the supervisor holds. However the supervisor dies, the kernel
closes that end, and the command is stopped. (PR_SET_PDEATHSIG does so on Linux alone, follows the thread that forked
and not the process, and needs code between fork and exec; a poll of getppid would be the command's own to do.)

A file by itself, importing four small modules: it stands beside every worker, at 10 ms and a few MB.
"""

import os
import signal
import sys
import threading
from contextlib import suppress

_GRACE_SECONDS = 3.0  # for the command to stop by itself, once nobody wants it any more
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def main(command: list[str]) -> int:
    """Run the command; returns how it ended, as a shell would say it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)  # until there is somebody to forward to
    child = os.fork()
    if child == 0:
        _become(command)
    for number in _FORWARDED:
        signal.signal(number, lambda number, _: _tell(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    abandoned = threading.Event()
    threading.Thread(target=_stop_when_abandoned, args=(child, abandoned), daemon=True).start()
    _, status = os.waitpid(child, 0)
    if abandoned.is_set():
        _kill_group()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _become(command: list[str]) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.execvp(command[0], command)  # noqa: S606  # no shell is the point
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
    os._exit(127)


def _stop_when_abandoned(child: int, abandoned: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    abandoned.set()
    _tell(child, signal.SIGTERM)
    threading.Event().wait(_GRACE_SECONDS)
    _kill_group()


def _tell(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)


def _kill_group() -> None:
    """Kill the command with all its children, and the guard, which leads their group."""
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
