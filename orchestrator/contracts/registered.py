"""Transformations by name: registered by a module that was imported, or found by an entry point."""

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from orchestrator.contracts.errors import ConfigurationError, UnknownName

__all__ = ["ENTRY_POINT_GROUP", "load_modules", "register", "registered"]

ENTRY_POINT_GROUP = "docmill.transformations"

_classes: dict[str, type[Any]] = {}


def register(name: str, cls: type[Any]) -> None:
    """Give a class a name, by which a spec can speak of it.

    Raises:
        ConfigurationError: another class has that name.
    """
    known = _classes.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ConfigurationError(f"transformation {name!r} is registered twice: {known!r} and {cls!r}")
    _classes[name] = cls


def registered(name: str, modules: tuple[str, ...] = ()) -> type[Any]:
    """The class of that name, loaded from its entry point if need be, else looked for in these modules.

    Raises:
        UnknownName: nobody registered it; the error lists who did.
        ConfigurationError: a module cannot be imported.
    """
    if name not in _classes:
        available = entry_points(group=ENTRY_POINT_GROUP)
        found = next(iter(available.select(name=name)), None)
        if found is not None:
            found.load()
        else:
            load_modules(modules)
        if name not in _classes:
            raise UnknownName("transformation", name, _classes.keys() | available.names)
    return _classes[name]


def load_modules(modules: tuple[str, ...]) -> None:
    """Import modules that register transformations.

    Raises:
        ConfigurationError: a module cannot be imported.
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise ConfigurationError(f"DOCMILL_MODULES names {module!r}, which cannot be imported: {error}") from error
