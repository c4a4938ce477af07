"""Embedding models of LlamaIndex."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestrator.contracts.errors import TerminalError
from orchestrator.contracts.hashing import canonical_json
from orchestrator.contracts.llama_index import PREFIX, parse_label
from workers.embedders.vectors import scale_rows
from workers.providers.calls import provider_call
from workers.providers.llama_index import build_component, check_component_name, llama_index_errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LlamaIndexEmbedder"]


class LlamaIndexEmbedder:
    """A component of LlamaIndex that embeds, by the label that holds its class and state.

    Attributes:
        model: the label, so that whoever searches makes the same model.

    Raises:
        ConfigurationError: the label is none, or names a class that is not registered here.
    """

    asks_a_service = True  # most of them do; what is local loses a few round trips to the cache
    server = ""  # the state names it

    def __init__(self, label: str) -> None:
        self._name, self._state = parse_label(label)
        check_component_name(self._name)
        self.model = f"{PREFIX}{self._name} {canonical_json(self._state)}"

    @cached_property
    def dimension(self) -> int:
        """Floats a vector: a word is embedded to know."""
        return len(self._vectors(["dimension"])[0])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, of length 1; 0 for a blank text, which the component is not asked about.

        Raises:
            TransientError: the model's server did not answer.
            ConfigurationError: the component cannot be made here.
            TerminalError: it gave something else than a vector for each text.
        """
        import numpy as np

        filled = [index for index, text in enumerate(texts) if text.strip()]
        matrix = np.zeros((len(texts), self.dimension), dtype=np.float32)
        if filled:
            found = np.asarray(self._vectors([texts[index] for index in filled]), dtype=np.float32)
            if found.shape != (len(filled), self.dimension):
                raise TerminalError(f"LlamaIndex's {self._name} gave vectors of shape {found.shape}")
            matrix[filled] = found
        return scale_rows(matrix)

    @cached_property
    def _component(self) -> Any:
        return build_component(self._name, self._state)

    def _vectors(self, texts: list[str]) -> list[list[float]]:
        component = self._component
        with provider_call(self.model), llama_index_errors():
            vectors: list[list[float]] = component.get_text_embedding_batch(texts)
        return vectors
