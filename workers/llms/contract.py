"""The port of a language model: messages in, one completion out, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from workers.tokens.usage import TokenUsage

__all__ = ["LLM", "Completion", "Message"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered.

    Attributes:
        text: empty where the model had nothing to say, or refused.
        usage: what the call cost; `estimated` where the provider did not report it.
        model: the model that answered, by the provider's name for it.
    """

    text: str
    usage: TokenUsage
    model: str


class LLM(Protocol):
    """A language model. One instance lives as long as its process; it is to be asked on `workers.process_loop`.

    Whoever implements it says what each call cost by `workers.tokens.spending.spent`, as soon as it is paid for.

    Attributes:
        model: the name by which `get_llm` makes it.
        server: the address that is asked, without secrets; "" where there is none. Goes into the cache's keys.
    """

    @property
    def model(self) -> str: ...

    @property
    def server(self) -> str: ...

    async def complete(self, messages: Sequence[Message], *, max_tokens: int | None = None) -> Completion:
        """Answer the last message.

        Args:
            max_tokens: tokens of the answer at most; None leaves it to the provider.

        Raises:
            TransientError: the provider did not answer; trying again may help, after `retry_after` seconds if it says.
            ConfigurationError: nobody can ask this model in this way: wrong key, address or name.
            TerminalError: these messages will never be answered.
        """
        ...
