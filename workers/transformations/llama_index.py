"""A transformation of LlamaIndex, run on our workers: a node parser, an extractor, or one of the user's own."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field, JsonValue, ValidationInfo, field_validator

from orchestrator.contracts.errors import ConfigurationError, DocumentError
from orchestrator.contracts.llama_index import check_no_secrets, installed_release, is_kind
from orchestrator.contracts.nodes import Node
from workers.providers.llama_index import build_component, check_component_name, llama_index_errors
from workers.providers.llama_index_nodes import from_llama_index, to_llama_index
from workers.transformations.contract import Transformation, transformation

__all__ = ["LlamaIndexTransformation"]


@transformation("llama_index", version=1)
class LlamaIndexTransformation(Transformation):
    """Run a component of LlamaIndex. `IngestionPipeline` makes this step of a component that it is handed.

    Attributes:
        component: a registered name, `SentenceSplitter`.
        state: its fields, as its `to_dict` gives them.
        speed: fields that do not change the output, as `num_workers`.
        release: of LlamaIndex, up to the minor number; another one here may give other nodes, and is refused.
    """

    tuning: ClassVar[frozenset[str]] = frozenset({"speed"})

    component: str
    state: dict[str, JsonValue] = Field(default_factory=dict)
    speed: dict[str, JsonValue] = Field(default_factory=dict)
    release: str = Field(default_factory=installed_release)

    @field_validator("component")
    @classmethod
    def _registered(cls, value: str) -> str:
        check_component_name(value)
        return value

    @field_validator("state")
    @classmethod
    def _without_secrets(cls, value: dict[str, JsonValue], info: ValidationInfo) -> dict[str, JsonValue]:
        check_no_secrets(info.data.get("component", "component"), value)
        return value

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Replace the nodes by what the component makes of them.

        Raises:
            ConfigurationError: LlamaIndex is another release here, cannot make the component, or this returns no nodes.
            DocumentError: there is no text left.
            TransientError: a service that the component asks did not answer.
        """
        component = self._built
        with llama_index_errors():
            made = component(to_llama_index(nodes))
        if not isinstance(made, list | tuple) or not all(is_kind(node, "BaseNode") for node in made):
            raise ConfigurationError(f"LlamaIndex's {self.component} returned {made!r:.80}; allowed is a list of nodes")
        found = [node for node in from_llama_index(made, nodes) if node.text.strip()]
        if not found:
            raise DocumentError("transform", f"LlamaIndex's {self.component} made no node with a text of it")
        return found

    @cached_property
    def _built(self) -> Any:
        if self.release != installed_release():
            raise ConfigurationError(
                f"LlamaIndex is {installed_release()} here, but the pipeline was made with {self.release}: "
                "client and workers need the same"
            )
        fields: dict[str, Any] = dict(self.state)
        for key, value in self.speed.items():
            nested = fields.get(key)
            fields[key] = {**nested, **value} if isinstance(nested, dict) and isinstance(value, dict) else value
        return build_component(self.component, fields)
