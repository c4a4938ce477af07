"""Failpoints: named places between two steps of the flow, at which a test lets a process die. For tests alone.

Without DOCMILL_FAILPOINTS in the environment they do nothing, in less than a tenth of a microsecond. It is
no user setting, and no part of `Settings`. Its form is `NAME=ACTION[@HIT]`, several separated by commas:

    DOCMILL_FAILPOINTS=transform.leased=kill@1,commit.upserted=sleep:0.5

    exit            this process ends at once, without any clean-up
    kill            this process gets SIGKILL
    kill_group      this process, and all of its group, get SIGKILL: a worker's main process with its children
    sleep:SECONDS   the step takes longer
    raise           FailpointReached is raised

With `@HIT` only that hit acts, counted from 1 over all processes that share DOCMILL_FAILPOINTS_DIR, so that whoever
recovers does not die again. There each failpoint that has an action writes one byte a hit into a file of its name:
the file's size says how often it was hit, and a test may write into it what is to count as hit before.
"""

import os
import re
import signal
import time
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from orchestrator.contracts.errors import ConfigurationError

__all__ = ["DIR_VARIABLE", "FAILPOINTS", "VARIABLE", "FailpointName", "FailpointReached", "failpoint"]

VARIABLE = "DOCMILL_FAILPOINTS"
DIR_VARIABLE = "DOCMILL_FAILPOINTS_DIR"

FailpointName = Literal[
    # The client, which reads the source.
    "dispatch.slice_committed",  # a slice is in the ledger, and no message of its batches is sent
    "dispatch.published",  # batches are marked as waiting, their messages are not sent
    "dispatch.sent",  # the messages are sent
    "dispatch.read",  # the source was read to its end, the ledger does not know
    "dispatch.listed",  # the listing is closed: from here on anybody may finish the job
    "dispatch.finish_due",  # all batches are done, documents are to be removed, and no worker was asked
    # A worker with a batch.
    "transform.leased",  # the lease is in the ledger, nothing was done
    "transform.chained",  # the nodes are made, and in this process alone
    "transform.stored",  # the nodes lie in Redis, the ledger says that the batch runs
    "transform.marked",  # the ledger says that the batch is transformed, Redis has not counted it
    "gather.counted",  # Redis has counted the batch, nobody looked whether there is something to commit
    "gather.taken",  # a segment was taken out of Redis, nobody was asked to commit it
    "gather.sent",  # the commit was asked for, the message of the last transform is not acknowledged
    # A worker with a segment.
    "commit.fetched",  # the nodes were read from Redis, the transaction has not begun
    "commit.claimed",  # inside the transaction: the documents' rows are written
    "commit.upserted",  # inside: the new nodes are in the store
    "commit.removed",  # inside: the stale nodes are out of the store
    "commit.written",  # inside: all is written, nothing is committed
    "commit.committed",  # the transaction has ended, the nodes still lie in Redis
    "commit.dropped",  # the nodes are gone from Redis, the window is not filled
    "commit.filled",  # the window is filled, nobody asked whether the job is done
    "window.published",  # batches are marked as waiting by a worker, their messages are not sent
    # A worker that ends a job.
    "finish.begun",  # the job may be done, nobody has looked
    "finish.deleting",  # inside the transaction: a page of vanished documents is out of store and ledger
    "finish.deleted",  # the page's transaction has ended, more pages may follow
    "finish.closed",  # the job has ended, nobody was told
    # A worker with a batch that fails as a whole.
    "poison.failed",  # the batch has failed, the ledger says that it runs
    "poison.halved",  # two halves have taken its place, none is published
    "poison.recorded",  # its one document is in the failures table, the job was not looked at
    # The reconciler.
    "reconcile.begun",  # it holds its lock, and has moved nothing
    "reconcile.abandoned",  # batches of dead workers are marked as waiting, their messages are not sent
    "reconcile.exhausted",  # batches that kill their workers are leased, and not taken apart
    "reconcile.lost",  # batches are marked as waiting anew, their messages are not sent again
    "reconcile.forgotten",  # forgotten commits are found, and not asked for
    "reconcile.moved",  # all is moved, its lock is held
]
FAILPOINTS: tuple[FailpointName, ...] = get_args(FailpointName)

_FORM = re.compile(
    r"(?P<name>[^=]+)=(?P<action>exit|kill|kill_group|raise|sleep:(?P<seconds>\d+(\.\d+)?))(@(?P<hit>[1-9]\d*))?"
)
_EXIT_CODE = 86  # nobody else's: a test sees that it was a failpoint


class FailpointReached(Exception):
    """A failpoint with the action `raise` was reached. No part of docmill knows it."""


class _Armed(NamedTuple):
    action: str
    seconds: float
    hit: int | None  # the one that acts; None: each does
    counter: Path | None


_armed: dict[str, _Armed] | None = None  # read at this process's first failpoint


def failpoint(name: FailpointName) -> None:
    """Do here what the environment says, which is nothing in production.

    Raises:
        ConfigurationError: a variable is not of the form above.
        FailpointReached: that is the action.
    """
    global _armed
    if _armed is None:
        _armed = _read(os.environ.get(VARIABLE, ""), os.environ.get(DIR_VARIABLE))
    if _armed and name in _armed:
        _reach(name, _armed[name])


def _read(value: str, folder: str | None) -> dict[str, _Armed]:
    armed = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        found = _FORM.fullmatch(part)
        if found is None:
            raise ConfigurationError(
                f"{VARIABLE} holds {part!r}, which is not NAME=ACTION[@HIT]; "
                "actions are exit, kill, kill_group, sleep:SECONDS and raise, hits count from 1"
            )
        if found["name"] not in FAILPOINTS:
            raise ConfigurationError(
                f"{VARIABLE} names the failpoint {found['name']!r}; there are {', '.join(FAILPOINTS)}"
            )
        if found["hit"] and not folder:
            raise ConfigurationError(
                f"{VARIABLE} holds {part!r}, but {DIR_VARIABLE} is not set: name a folder in which hits are counted"
            )
        armed[found["name"]] = _Armed(
            action=found["action"].partition(":")[0],
            seconds=float(found["seconds"] or 0),
            hit=int(found["hit"]) if found["hit"] else None,
            counter=Path(folder, found["name"]) if folder else None,
        )
    return armed


def _reach(name: str, armed: _Armed) -> None:
    number = _count(armed.counter) if armed.counter else None
    if armed.hit not in (None, number):
        return
    match armed.action:
        case "exit":
            os._exit(_EXIT_CODE)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill_group":
            os.killpg(os.getpgrp(), signal.SIGKILL)
        case "sleep":
            time.sleep(armed.seconds)
        case _:
            raise FailpointReached(name)


def _count(counter: Path) -> int:
    """Count a hit, and return its number. Whoever appends at the same time ends at another place in the file."""
    file = os.open(counter, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, b".")
        return os.lseek(file, 0, os.SEEK_CUR)
    finally:
        os.close(file)
