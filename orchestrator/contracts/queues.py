"""Queues: how messages get to workers. Client and workers send through these functions, with the same settings."""

from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.contracts.messages import COMMIT, FINISH, OPTIMIZE, RECONCILE, TRANSFORM

__all__ = [
    "COMMIT_QUEUE",
    "CONTROL_QUEUE",
    "QUEUES",
    "TRANSFORM_QUEUE",
    "celery_config",
    "send_commit",
    "send_finish",
    "send_optimize",
    "send_reconcile",
    "send_transforms",
]

# Commits have a queue of their own: they free memory in Redis and must not wait behind the transforms that fill it.
TRANSFORM_QUEUE = "docmill.transform"
COMMIT_QUEUE = "docmill.commit"
CONTROL_QUEUE = "docmill.control"
QUEUES = (COMMIT_QUEUE, CONTROL_QUEUE, TRANSFORM_QUEUE)

_ROUTES = {
    TRANSFORM: TRANSFORM_QUEUE,
    COMMIT: COMMIT_QUEUE,
    FINISH: CONTROL_QUEUE,
    OPTIMIZE: CONTROL_QUEUE,
    RECONCILE: CONTROL_QUEUE,
}
_RESULT_SECONDS = 3600  # task results are summaries to look at; nothing reads them to work
_RECONCILE_EXPIRES_SECONDS = 30  # a look that nobody took is not worth taking late


def celery_config(
    broker_url: str, result_url: str, *, connect_timeout: float = 5.0, time_limit: float = 420.0
) -> dict[str, Any]:
    """The settings that client and workers share, as plain data; the reasons are those of the measured facts.

    Args:
        broker_url, result_url: addresses in Celery's form.
        connect_timeout: seconds for the broker to answer.
        time_limit: seconds after which a task is killed.
    """
    socket_options = {
        "socket_timeout": 15,  # None could hang a publish for ever
        "socket_connect_timeout": connect_timeout,
        "health_check_interval": 25,
    }
    keepalive = not broker_url.startswith("redis+socket") and not result_url.startswith("redis+socket")
    if keepalive:  # a Unix socket has none, and redis-py refuses to be asked
        socket_options["socket_keepalive"] = True
    transport: dict[str, Any] = {"confirm_publish": True}
    if broker_url.startswith("redis"):
        transport = {
            **socket_options,
            "global_keyprefix": "docmill:",
            # A delivery not acknowledged for so long is delivered again; it must outlast any task.
            "visibility_timeout": max(900, round(2 * time_limit) + 60),
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,  # together at most 6 s late; the defaults add 100 s
        }
    queue_type = {} if broker_url.startswith("redis") else {"queue_arguments": {"x-queue-type": "quorum"}}
    return {
        "broker_url": broker_url,
        "result_backend": result_url,
        "broker_transport_options": transport,
        "result_backend_transport_options": {"global_keyprefix": "docmill:"},
        "redis_socket_timeout": 15,
        "redis_socket_connect_timeout": connect_timeout,
        "redis_socket_keepalive": keepalive,
        "result_backend_max_retries": 10,  # the default is for ever
        "broker_connection_timeout": connect_timeout,
        "broker_connection_retry_on_startup": True,
        "accept_content": ["json", "msgpack"],  # no pickle: broker access must not mean code execution
        "task_serializer": "json",
        "result_serializer": "json",
        "result_expires": _RESULT_SECONDS,
        "task_ignore_result": True,
        "task_queues": {name: {"exchange": name, "routing_key": name, **queue_type} for name in QUEUES},
        "task_default_queue": CONTROL_QUEUE,
        "task_create_missing_queues": False,
        "task_routes": {task: {"queue": queue} for task, queue in _ROUTES.items()},
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_time_limit": time_limit,
        "task_send_sent_event": True,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "enable_utc": True,
    }


def send_transforms(app: Any, job_id: str, published: Iterable[Sequence[int]]) -> None:
    """Send the messages of (number, documents) that were just marked as waiting.

    A message that gets lost on the way is sent again by the reconciler; one that arrives twice is leased once.
    """
    batches = list(published)
    if not batches:
        return
    with app.producer_or_acquire() as producer, producer.batch():
        for number, documents in batches:
            app.send_task(
                TRANSFORM,
                kwargs={"job": job_id, "batch": number},
                producer=producer,
                # what Flower shows instead of the arguments
                argsrepr=f"job={job_id} batch={number} docs={documents}",
                kwargsrepr="",
                ignore_result=True,
            )


def send_commit(app: Any, job_id: str, numbers: Sequence[int]) -> None:
    """Ask for the commit of a segment."""
    app.send_task(
        COMMIT,
        kwargs={"job": job_id, "batches": list(numbers)},
        argsrepr=f"job={job_id} segment={len(numbers)} batches",
        kwargsrepr="",
    )


def send_finish(app: Any, job_id: str) -> None:
    """Ask for the end of a job whose batches are all done."""
    app.send_task(FINISH, kwargs={"job": job_id}, argsrepr=f"job={job_id}", kwargsrepr="")


def send_optimize(app: Any, job_id: str) -> None:
    """Ask for a look at whether the job's collection needs a search index."""
    app.send_task(OPTIMIZE, kwargs={"job": job_id}, argsrepr=f"job={job_id}", kwargsrepr="")


def send_reconcile(app: Any) -> None:
    """Ask one worker to look for what has stalled."""
    app.send_task(RECONCILE, expires=_RECONCILE_EXPIRES_SECONDS, argsrepr="", kwargsrepr="")
