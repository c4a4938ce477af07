"""Queues: how messages get to workers. Client and workers send through these functions, with the same settings."""

from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.contracts.addresses import celery_address
from orchestrator.contracts.messages import COMMIT, FINISH, OPTIMIZE, RECONCILE, TRANSFORM, Priority
from orchestrator.contracts.traces import trace_options

__all__ = [
    "COMMIT_QUEUE",
    "CONTROL_QUEUE",
    "DEAD_LETTER_QUEUE",
    "QUEUES",
    "TRANSFORM_QUEUE",
    "celery_config",
    "declare_dead_letters",
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
# Messages that RabbitMQ gave up: kept to be looked at. The ledger does not need them, it has their batches.
DEAD_LETTER_QUEUE = "docmill.dead"
_RESULT_SECONDS = 3600  # task results are summaries to look at; nothing reads them to work
_RECONCILE_EXPIRES_SECONDS = 30  # a look that nobody took is not worth taking late
_ANSWER_SECONDS = 15  # for the broker to take a message; without a bound a dead network hangs a publish for ever
_AMQP_HEARTBEAT_SECONDS = 10  # a connection of two silent heartbeats is given up
_LOST_CHILD_SECONDS = 1.0
# Deliveries of one message, as RabbitMQ 4 has it by default. The ledger stops a batch that kills its workers sooner.
_DELIVERY_LIMIT = 20
_DEAD_LETTERS_KEPT_MILLISECONDS = 7 * 24 * 3600 * 1000
_DEAD_LETTERS_KEPT = 10_000


def celery_config(
    broker_url: str, result_url: str, *, connect_timeout: float = 5.0, time_limit: float = 840.0
) -> dict[str, Any]:
    """The settings that client and workers share, as plain data; the reasons are those of the measured facts.

    Args:
        broker_url, result_url: addresses in Celery's form.
        connect_timeout: seconds for the broker to answer.
        time_limit: seconds after which a task is killed.

    Raises:
        ConfigurationError: an address asks for TLS in a way that makes no sense.
    """
    broker_url, broker_tls = celery_address(broker_url)
    result_url, result_tls = celery_address(result_url)
    is_redis = broker_url.startswith("redis")
    # A Unix socket has no keepalive, and redis-py refuses to be asked.
    keepalive = not broker_url.startswith("redis+socket") and not result_url.startswith("redis+socket")
    transport = _redis_transport(connect_timeout, time_limit, keepalive) if is_redis else _amqp_transport()
    return {
        "broker_url": broker_url,
        "broker_use_ssl": broker_tls or False,
        "result_backend": result_url,
        "redis_backend_use_ssl": result_tls,
        "broker_transport_options": transport,
        "result_backend_transport_options": {"global_keyprefix": "docmill:"},
        "redis_socket_timeout": 15,
        "redis_socket_connect_timeout": connect_timeout,
        "redis_socket_keepalive": keepalive,
        "result_backend_max_retries": 10,  # the default is for ever
        "broker_connection_timeout": connect_timeout,
        "broker_connection_retry_on_startup": True,
        "broker_heartbeat": _AMQP_HEARTBEAT_SECONDS,
        # Else RabbitMQ locks out a worker of the same name: a second one here, or this one back from a network cut.
        "control_queue_exclusive": is_redis,
        "control_queue_durable": not is_redis,
        "accept_content": ["json", "msgpack"],  # no pickle: broker access must not mean code execution
        "task_serializer": "json",
        "result_serializer": "json",
        "result_expires": _RESULT_SECONDS,
        "task_ignore_result": True,
        "task_queues": {
            name: {"exchange": name, "routing_key": name, "queue_arguments": None if is_redis else _quorum(name)}
            for name in QUEUES
        },
        "task_default_queue": CONTROL_QUEUE,
        "task_create_missing_queues": False,
        "task_routes": {task: {"queue": queue} for task, queue in _ROUTES.items()},
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_time_limit": time_limit,
        "task_send_sent_event": True,
        # Once for a connection that broke while idle, once for luck; after that the reconciler sends it.
        "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2},
        "worker_prefetch_multiplier": 1,
        # A child that died holds its place so long, in case its result is still on the way.
        "worker_lost_wait": _LOST_CHILD_SECONDS,
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "enable_utc": True,
    }


def _redis_transport(connect_timeout: float, time_limit: float, keepalive: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": _ANSWER_SECONDS,
        "socket_connect_timeout": connect_timeout,
        "health_check_interval": 25,
        "global_keyprefix": "docmill:",
        # A delivery not acknowledged for so long is delivered again; it must outlast any task.
        "visibility_timeout": max(900, round(2 * time_limit) + 60),
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,  # together at most 6 s late; the defaults add 100 s
    }
    return {**options, "socket_keepalive": True} if keepalive else options


def _amqp_transport() -> dict[str, Any]:
    # Events are confirmed too, and nobody bounds their wait but the socket itself.
    return {"confirm_publish": True, "read_timeout": _ANSWER_SECONDS, "write_timeout": _ANSWER_SECONDS}


def _quorum(name: str) -> dict[str, Any]:
    """Arguments of a queue on RabbitMQ; client and worker must declare it with the same."""
    arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": _DELIVERY_LIMIT}
    if name == CONTROL_QUEUE:  # its messages expire unread while no worker runs: nothing to look at
        return arguments
    # By way of the default exchange, which always exists, straight to the queue.
    return {**arguments, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD_LETTER_QUEUE}


def declare_dead_letters(channel: Any) -> None:
    """Make the queue of the messages that were given up, on a channel to RabbitMQ. Bounded in number and age."""
    channel.queue_declare(
        DEAD_LETTER_QUEUE,
        durable=True,
        auto_delete=False,
        arguments={
            "x-queue-type": "quorum",
            "x-message-ttl": _DEAD_LETTERS_KEPT_MILLISECONDS,
            "x-max-length": _DEAD_LETTERS_KEPT,
        },
    )


def send_transforms(
    app: Any, job_id: str, published: Iterable[Sequence[int]], priority: Priority = Priority.NORMAL
) -> None:
    """Send the messages of (number, documents) that were just marked as waiting.

    A message that gets lost on the way is sent again by the reconciler; one that arrives twice is leased once.
    """
    batches = list(published)
    if not batches:
        return
    with app.producer_or_acquire() as producer, producer.batch():
        for number, documents in batches:
            _send(
                app,
                TRANSFORM,
                f"job={job_id} batch={number} docs={documents}",
                kwargs={"job": job_id, "batch": number},
                priority=_priority_number(app, priority),
                producer=producer,
                ignore_result=True,
            )


def _priority_number(app: Any, priority: Priority) -> int:
    """The priority in the broker's numbers: on Redis 0 is taken first, on RabbitMQ's quorum queues what is above 4."""
    redis = {Priority.HIGH: 0, Priority.NORMAL: 3, Priority.LOW: 9}
    rabbitmq = {Priority.HIGH: 9, Priority.NORMAL: 4, Priority.LOW: 0}
    return (redis if app.conf.broker_url.startswith("redis") else rabbitmq)[priority]


def send_commit(app: Any, job_id: str, numbers: Sequence[int]) -> None:
    """Ask for the commit of a segment."""
    shown = f"job={job_id} segment={len(numbers)} batches"
    _send(app, COMMIT, shown, kwargs={"job": job_id, "batches": list(numbers)})


def send_finish(app: Any, job_id: str) -> None:
    """Ask for the end of a job whose batches are all done."""
    _send(app, FINISH, f"job={job_id}", kwargs={"job": job_id})


def send_optimize(app: Any, job_id: str) -> None:
    """Ask for a look at whether the job's collection needs a search index."""
    _send(app, OPTIMIZE, f"job={job_id}", kwargs={"job": job_id})


def send_reconcile(app: Any) -> None:
    """Ask one worker to look for what has stalled. Not tried again: the next asking is seconds away."""
    _send(app, RECONCILE, "", expires=_RECONCILE_EXPIRES_SECONDS, retry=False)


def _send(app: Any, task: str, shown: str, **options: Any) -> None:
    """Send one message; `shown` is what Flower shows instead of the arguments."""
    app.send_task(task, argsrepr=shown, kwargsrepr="", confirm_timeout=_ANSWER_SECONDS, **trace_options(), **options)
