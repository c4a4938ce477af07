"""Vector stores: where nodes are kept and found. The contract, the registry, and one file a kind of store.

A lazy door: a name is imported when it is asked for, and a store's libraries when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.vector_stores.contract import Collection, Match, VectorStore
    from workers.vector_stores.registry import open_vector_store

__all__ = ["Collection", "Match", "VectorStore", "open_vector_store"]

_HOMES = {"Collection": "contract", "Match": "contract", "VectorStore": "contract", "open_vector_store": "registry"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
