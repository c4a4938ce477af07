"""What docmill logs, as the lines that its programs would write."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.contracts.logs import LineFormatter

__all__ = ["captured_logs"]


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(LineFormatter("json", is_terminal=False))
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@contextmanager
def captured_logs(level: int = logging.INFO) -> Iterator[list[dict[str, Any]]]:
    """The lines of docmill's own that this process logs meanwhile; the list grows."""
    handler = _Lines()
    loggers = [logging.getLogger(name) for name in ("orchestrator", "workers")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
    try:
        yield handler.lines
    finally:
        for logger, level_before in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level_before)
