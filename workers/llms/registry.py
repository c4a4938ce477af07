"""Language models by name."""

from orchestrator.contracts.errors import UnknownName
from workers.llms.contract import LLM

__all__ = ["check_llm_name", "get_llm"]

_KNOWN = ("openai/<model>",)


def check_llm_name(name: str) -> None:
    """Refuse a name that no language model could have, without asking anybody.

    Raises:
        UnknownName: the message lists the names there are.
    """
    kind, _, model = name.partition("/")
    if kind != "openai" or not model:
        raise UnknownName("language model", name, _KNOWN)


def get_llm(name: str) -> LLM:
    """The language model of that name.

    Args:
        name: `openai/<model>`, the model by the name that the server knows it by.

    Raises:
        UnknownName: no language model has that name.
        ConfigurationError: a setting of its server is wrong or missing.
    """
    check_llm_name(name)
    from workers.llms.openai import OpenAILLM
    from workers.providers.openai import process_server

    return OpenAILLM(name.partition("/")[2], process_server())
