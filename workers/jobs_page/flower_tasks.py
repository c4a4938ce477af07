"""Which of Flower's tasks ran a batch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

__all__ = ["tasks_of_batches"]


def tasks_of_batches(state: Any, job_id: str, numbers: Collection[int]) -> dict[int, str]:
    """{batch number: id of the latest task that Flower has seen for it}, of those it has seen.

    Args:
        state: Flower's events, which its loop alone may read.
    """
    start = f"job={job_id} batch="  # as contracts/queues.py has tasks shown
    wanted = {f"{start}{number}": number for number in numbers}
    found: dict[int, tuple[float, str]] = {}
    for id, task in state.tasks.data.items():
        if not (task.args and task.args.startswith(start)):
            continue
        number = wanted.get(task.args.partition(" docs=")[0])
        if number is not None:
            found[number] = max(found.get(number, (0.0, "")), (task.timestamp or 0.0, id))
    return {number: id for number, (_, id) in found.items()}
