"""The worker's consumer."""

from types import SimpleNamespace
from typing import Any

import pytest

from workers.consumer import Consumer


def test_events_of_one_moment_are_sent_together_and_a_lost_call_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty events of one moment are sent once, soon; and the next after that are sent, though a call was lost."""
    now = 100.0
    calls: list[Any] = []
    monkeypatch.setattr("workers.consumer.monotonic", lambda: now)
    consumer = object.__new__(Consumer)
    consumer._flush_at = 0.0
    consumer.timer = SimpleNamespace(call_after=lambda seconds, call: calls.append((seconds, call)))

    for _ in range(20):
        consumer.on_send_event_buffered()

    assert calls == [(0.25, consumer._flush_events)]
    now += 0.26  # a reconnect has cancelled the call meanwhile
    consumer.on_send_event_buffered()
    assert len(calls) == 2
