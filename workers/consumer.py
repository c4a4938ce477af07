"""Celery's consumer without its queues for delayed delivery: docmill never uses them, and on RabbitMQ they are 28."""

from celery.worker.consumer import Consumer as CeleryConsumer

__all__ = ["Consumer"]


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery carries no types
    """Named by the setting `worker_consumer`."""

    class Blueprint(CeleryConsumer.Blueprint):  # type: ignore[misc]
        """The same steps in the same order, without that one."""

        default_steps: list[str] = [  # noqa: RUF012 - Celery's own form
            step for step in CeleryConsumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")
        ]
