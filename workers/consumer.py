"""Celery's consumer without its queues for delayed delivery, and with the events of tasks sent a few times a second.

docmill never delays a delivery, and on RabbitMQ the queues for it are 28. To send each event as it comes took a third
of the main process's time.
"""

from time import monotonic
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer

__all__ = ["Consumer"]

_EVENTS_SECONDS = 0.25  # that an event waits for others; who looks at Flower does not see it


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery carries no types
    """Named by the setting `worker_consumer`."""

    class Blueprint(CeleryConsumer.Blueprint):  # type: ignore[misc]
        """The same steps in the same order, without that one."""

        default_steps: list[str] = [  # noqa: RUF012 - Celery's own form
            step for step in CeleryConsumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")
        ]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._flush_at = 0.0

    def on_send_event_buffered(self) -> None:
        """An event is to be sent: it goes with all that come in the same quarter of a second."""
        # A time and not a flag: a reconnect may cancel the call, and the next event is to ask for another.
        if monotonic() >= self._flush_at:
            self._flush_at = monotonic() + _EVENTS_SECONDS
            self.timer.call_after(_EVENTS_SECONDS, self._flush_events)
