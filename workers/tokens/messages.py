"""What a chat message and a tool put into a prompt: the texts to count, and the tokens that are none of a text.

Messages and their parts may be mappings, as they go over the wire, or objects, as an SDK or LlamaIndex makes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass

from orchestrator.contracts.errors import ConfigurationError
from workers.tokens.usage import field_of

__all__ = ["TOKENS_PER_IMAGE", "MessageParts", "tools_as_json"]

TOKENS_PER_IMAGE = 2125  # flat, whatever its size: LlamaIndex's number, which is high for most images
_PER_MESSAGE = 3  # what the chat format puts around a message; from OpenAI's cookbook on counting tokens
_PER_CALL = 3  # and around the call of a function or tool
_TOOL_ANSWER = -2  # a message with the role of a tool has less around it
_TOOL_ROLES = frozenset({"tool", "function"})
_IMAGES = frozenset({"image", "image_url", "input_image"})
_CALLS = frozenset({"tool_use", "tool_call"})  # Anthropic's and LlamaIndex's blocks
_TEXT_FIELDS = ("text", "thinking", "content")


@dataclass(slots=True)
class MessageParts:
    """The texts of a message, and the tokens it costs beside them."""

    texts: list[str] = field(default_factory=list)
    flat: int = 0

    @classmethod
    def of(cls, message: object) -> MessageParts:
        """The parts of one message: role, content, images, and calls of functions and tools."""
        parts = cls(flat=_PER_MESSAGE)
        if isinstance(message, str):
            parts.texts.append(message)
            return parts
        role = field_of(message, "role")
        role = getattr(role, "value", role)
        if role:
            parts.texts.append(str(role))
        if role in _TOOL_ROLES:
            parts.flat += _TOOL_ANSWER
        calls = parts._add_content(field_of(message, "blocks") or field_of(message, "content"))
        extra = field_of(message, "additional_kwargs")
        given = [call for place in (message, extra) for call in _items(field_of(place, "tool_calls"))]
        functions = [field_of(place, "function_call") for place in (message, extra)]
        for call in given or calls:  # LlamaIndex writes the same calls down in both places
            parts._add_call(field_of(call, "function") or call)
        for function in functions:
            if function is not None:
                parts._add_call(function)
        return parts

    def _add_content(self, content: object) -> list[object]:
        """Adds a text, a block or a list of them; returns the calls found among the blocks."""
        if isinstance(content, str):
            self.texts.append(content)
            return []
        if isinstance(content, list | tuple):
            return [call for block in content for call in self._add_content(block)]
        kind = field_of(content, "type") or field_of(content, "block_type")
        if kind in _CALLS:
            return [content]
        if kind in _IMAGES:
            self.flat += TOKENS_PER_IMAGE
            return []
        inner = (field_of(content, name) for name in _TEXT_FIELDS)
        found = next((value for value in inner if isinstance(value, str | list | tuple)), None)
        return [] if found is None else self._add_content(found)

    def _add_call(self, function: object) -> None:
        name = _first_of(function, ("name", "tool_name"))
        arguments = _first_of(function, ("arguments", "args", "input", "tool_kwargs"))
        self.flat += _PER_CALL
        self.texts += [_as_text(part) for part in (name, arguments) if part is not None]


def tools_as_json(tools: Sequence[object]) -> str:
    """The JSON of a list of tools: mappings, dataclasses, pydantic models, or LlamaIndex tools.

    Raises:
        ConfigurationError: a tool is something else.
    """
    return json.dumps(list(tools), ensure_ascii=False, default=_tool_as_mapping)


def _tool_as_mapping(tool: object) -> object:
    if isinstance(tool, Mapping):
        return dict(tool)
    if is_dataclass(tool) and not isinstance(tool, type):
        return asdict(tool)
    for holder, method in ((tool, "model_dump"), (field_of(tool, "metadata"), "to_openai_tool")):
        describe = getattr(holder, method, None)
        if callable(describe) and not isinstance(tool, type):
            return describe()
    raise ConfigurationError(
        f"a tool is a mapping, a dataclass, a pydantic model or a LlamaIndex tool, not a {type(tool).__name__}"
    )


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, list | tuple) else ()


def _first_of(thing: object, names: tuple[str, ...]) -> object:
    return next((value for name in names if (value := field_of(thing, name)) is not None), None)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
