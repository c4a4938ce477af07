"""Callback handlers: an operator's own objects that hear of every paid call, in the worker process that made it.

They stand by name in the settings, for code does not travel: each worker has them, whatever job it works on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from orchestrator.contracts.errors import ConfigurationError, UnknownName
from orchestrator.contracts.logs import get_logger
from workers.tokens.usage import TokenEvent

__all__ = ["CallbackHandler", "callback_handler", "check_callback_handlers", "notify", "use_callback_handlers"]


class CallbackHandler(Protocol):
    """What hears of calls; a TokenCountingHandler is one."""

    def on_event(self, event: TokenEvent) -> object:
        """A call was paid for. Many threads tell of theirs, and wait: what takes long is put elsewhere."""
        ...


_Maker = TypeVar("_Maker", bound=Callable[[], CallbackHandler])
_makers: dict[str, Callable[[], CallbackHandler]] = {}
_used: list[CallbackHandler] = []


def callback_handler(name: str) -> Callable[[_Maker], _Maker]:
    """Give a class or a function without arguments, which makes a handler, the name that the settings know it by.

    Raises:
        ConfigurationError: another one has that name.
    """

    def register(maker: _Maker) -> _Maker:
        if _makers.setdefault(name, maker) is not maker:
            raise ConfigurationError(f"callback handler {name!r} is registered twice: {_makers[name]!r} and {maker!r}")
        return maker

    return register


def check_callback_handlers(names: tuple[str, ...]) -> None:
    """Refuse names that nobody registered.

    Raises:
        UnknownName: it says which there are.
    """
    for name in names:
        if name not in _makers:
            raise UnknownName("callback handler", name, _makers.keys())


def use_callback_handlers(names: tuple[str, ...]) -> None:
    """Make these handlers, one each, and let them hear of calls in this process from now on, in place of others.

    Raises:
        UnknownName: nobody registered it.
    """
    check_callback_handlers(names)
    _used[:] = [_makers[name]() for name in names]


def notify(event: TokenEvent) -> None:
    """Tell all handlers. One that fails costs a line in the log: what was paid for is there, and is not to be lost."""
    for handler in _used:
        try:
            handler.on_event(event)
        except Exception as error:  # noqa: BLE001 - anybody's code, which only listens
            get_logger(__name__).warning("callback handler failed", handler=type(handler).__name__, error=error)
