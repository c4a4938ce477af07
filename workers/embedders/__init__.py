"""Embedders: texts in, vectors out. The contract, the registry, and one file a kind of embedder.

A lazy door: a name is imported when it is asked for, and a model's libraries when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.embedders.contract import Embedder
    from workers.embedders.registry import get_embedder

__all__ = ["Embedder", "get_embedder"]

_HOMES = {"Embedder": "contract", "get_embedder": "registry"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
