"""Embedding models of a server that speaks OpenAI's API."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.contracts.errors import ConfigurationError
from workers.embedders.vectors import scale_rows
from workers.process_loop import run_on_process_loop
from workers.providers.openai import OpenAIServer
from workers.providers.paid_jobs import run_paid_jobs
from workers.tokens.spending import about_to_spend, spent
from workers.tokens.tokenizer import get_tokenizer
from workers.tokens.usage import TokenUsage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from openai import AsyncOpenAI

__all__ = ["OpenAIEmbedder"]

_MOST_TEXTS = 2048  # OpenAI's own limit a request
_FEW_TEXTS = 16  # fewer are not worth a request of their own


class OpenAIEmbedder:
    """An embedding model, asked by `/embeddings`: several requests at once, a slice of the texts each.

    What each request cost is said by `spent`, as the server reports it.

    Attributes:
        model: the registered name, with the dimension where one was asked for.

    Args:
        name: the model by the server's name for it.
        server: where it is asked.
        dimension: floats a vector, asked of the server; None takes what the model gives.
    """

    asks_a_service = True

    def __init__(self, name: str, server: OpenAIServer, dimension: int | None = None) -> None:
        self._name = name
        self._server = server
        self._asked = self._dimension = dimension
        self.model = f"openai/{name}" + (f"@{dimension}" if dimension else "")

    @property
    def dimension(self) -> int:
        """Floats a vector. Where none was asked for, the first answer tells; without one yet, a word is embedded.

        Raises:
            TransientError, TerminalError: as `embed` does.
        """
        if self._dimension is None:
            run_on_process_loop(self._request(["dimension"]))
        assert self._dimension is not None  # noqa: S101 - an answer sets it, or raises
        return self._dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, of length 1; 0 for a blank text, which is not sent.

        Raises:
            TransientError: the server is busy, broken or away; `retry_after` is what it asked for.
            ConfigurationError: it refuses the key, the address or the model, or gives vectors of another dimension.
            TerminalError: it refuses these texts, or what it answers is malformed each time.
        """
        import numpy as np

        filled = [index for index, text in enumerate(texts) if text.strip()]
        found = run_on_process_loop(self._slices([texts[index] for index in filled]))
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        if filled:
            vectors[filled] = np.concatenate(found)
        return scale_rows(vectors)

    @property
    def server(self) -> str:
        """Its address, without a password."""
        return self._server.address

    async def _slices(self, texts: list[str]) -> list[NDArray[np.float32]]:
        """The texts' vectors, slice by slice, in order."""
        at_once = self._server.concurrency
        size = min(_MOST_TEXTS, max(_FEW_TEXTS, -(-len(texts) // at_once)))
        slices = (texts[start : start + size] for start in range(0, len(texts), size))
        return await run_paid_jobs((partial(self._request, part) for part in slices), workers=at_once)

    async def _request(self, texts: list[str]) -> NDArray[np.float32]:
        request: dict[str, Any] = {"model": self._name, "input": texts, "encoding_format": "base64"}
        if self._asked is not None:
            request["dimensions"] = self._asked

        async def send(client: AsyncOpenAI) -> Any:
            about_to_spend(lambda: sum(get_tokenizer().count_many(texts)))
            return await client.embeddings.with_raw_response.create(**request)

        def read(answer: dict[str, Any]) -> NDArray[np.float32]:
            reported = TokenUsage.from_provider(answer.get("usage"))
            # Servers that do not count report 0.
            spent(self.model, reported.as_embedding() if reported and reported.total else _estimate(texts))
            return _matrix(answer["data"], len(texts))

        vectors = await self._server.ask(self.model, send, read)
        self._learn(vectors.shape[1])
        return vectors

    def _learn(self, dimension: int) -> None:
        if self._dimension is None:
            self._dimension = dimension
        elif self._dimension != dimension:
            raise ConfigurationError(
                f"{self._server.address} gave vectors of {dimension} dimensions for {self.model!r}; "
                f"expected are {self._dimension}. A dimension behind @ must be one that the model can give"
            )


def _matrix(data: list[dict[str, Any]], count: int) -> NDArray[np.float32]:
    """The vectors of an answer in the order of the texts.

    Raises:
        KeyError, TypeError, ValueError: they are not so many finite vectors of one length.
    """
    import numpy as np

    by_index = {int(item.get("index", place)): item["embedding"] for place, item in enumerate(data)}
    if by_index.keys() != set(range(count)) or len(data) != count:
        raise ValueError(f"{len(data)} vectors for {count} texts")
    matrix = np.stack([_vector(by_index[index]) for index in range(count)])
    if matrix.ndim != 2 or not matrix.shape[1] or not np.isfinite(matrix).all():
        raise ValueError("vectors that are empty, or not of numbers")
    return matrix


def _vector(embedding: str | list[float]) -> NDArray[np.float32]:
    """From base64 of little-endian floats, as asked for; or from the list that some servers send all the same."""
    import numpy as np

    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4").astype(np.float32)
    return np.asarray(embedding, np.float32)


def _estimate(texts: Sequence[str]) -> TokenUsage:
    return TokenUsage(embedding=sum(get_tokenizer().count_many(texts)), estimated=True)
