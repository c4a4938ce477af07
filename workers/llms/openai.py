"""Chat models of a server that speaks OpenAI's API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workers.llms.contract import Completion, Message
from workers.providers.openai import OpenAIServer
from workers.tokens.spending import about_to_spend, spent
from workers.tokens.tokenizer import get_tokenizer
from workers.tokens.usage import ReportedUsage, TokenUsage

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["OpenAILLM"]

_TOKENS_A_MESSAGE = 3  # that the chat format adds


class OpenAILLM:
    """A chat model, asked by `/chat/completions`."""

    def __init__(self, name: str, server: OpenAIServer) -> None:
        self._name = name
        self._server = server
        self.model = f"openai/{name}"
        self.server = server.address

    async def complete(self, messages: Sequence[Message], *, max_tokens: int | None = None) -> Completion:
        """Answer the last message. Raises what `LLM.complete` raises."""
        request: dict[str, Any] = {
            "model": self._name,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
        }
        if max_tokens is not None:
            # OpenAI's newer models refuse the old word, which is the only one that most other servers know.
            request["max_completion_tokens" if self._server.is_openai else "max_tokens"] = max_tokens

        async def send(client: AsyncOpenAI) -> Any:
            about_to_spend(lambda: _prompt_tokens(messages))
            return await client.chat.completions.with_raw_response.create(**request)

        def read(answer: dict[str, Any]) -> Completion:
            reported = ReportedUsage.read(answer.get("usage"))
            known = TokenUsage(reported.prompt or 0, reported.completion or 0, cached=reported.cached)
            spent(self.model, known)  # whatever the rest of the answer looks like
            text = answer["choices"][0]["message"].get("content") or ""
            if not isinstance(text, str):
                raise TypeError(f"content is {type(text).__name__}, not text")
            missing = TokenUsage(
                prompt=0 if reported.prompt else _prompt_tokens(messages),  # servers that do not count report 0
                completion=get_tokenizer().count(text) if reported.completion is None else 0,
                estimated=True,
            )
            spent(self.model, missing)
            usage = known + missing if missing.total else known
            return Completion(text, usage, str(answer.get("model") or self._name))

        return await self._server.ask(self.model, send, read)


def _prompt_tokens(messages: Sequence[Message]) -> int:
    """About what the messages cost, by our own count."""
    texts = (message.content for message in messages)
    return sum(get_tokenizer().count_many(texts)) + _TOKENS_A_MESSAGE * len(messages)
