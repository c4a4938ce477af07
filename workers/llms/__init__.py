"""Language models: messages in, a completion out. The contract, the registry, and one file a kind of provider.

A lazy door: a name is imported when it is asked for, and a provider's library when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.llms.contract import LLM, Completion, Message
    from workers.llms.registry import check_llm_name, get_llm

__all__ = ["LLM", "Completion", "Message", "check_llm_name", "get_llm"]

_HOMES = {
    "LLM": "contract",
    "Completion": "contract",
    "Message": "contract",
    "check_llm_name": "registry",
    "get_llm": "registry",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
