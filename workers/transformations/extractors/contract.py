"""What the extractors share: the model, its prompts, and how many nodes it is asked about at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import partial
from string import Formatter
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.nodes import Node
from workers.transformations.contract import Transformation
from workers.transformations.sanitize import sanitize

if TYPE_CHECKING:
    from workers.llms.contract import LLM

__all__ = ["Extractor", "unfenced"]

_FENCES = "\"'`*#“”„«» \t\r\n"  # that models like to put around a short answer


def _default_llm() -> str:
    from orchestrator.settings import load_settings

    llm = load_settings().llm
    if llm is None:
        raise ConfigurationError("an extractor needs a language model: give llm='openai/<model>', or set DOCMILL_LLM")
    return llm


class Extractor(Transformation):
    """Adds to the metadata of nodes what a language model says of them. Texts stay as they are.

    What each call costs is counted with the batch. An answer without text adds nothing.

    Attributes:
        llm: the name of a language model; `get_llm` knows them. Default: the setting `DOCMILL_LLM` of the client.
        max_tokens: tokens of an answer at most; None leaves it to the provider.
        concurrency: calls at once for one document; of a whole process `DOCMILL_LLM_CONCURRENCY` at most.
    """

    tuning: ClassVar[frozenset[str]] = frozenset({"concurrency"})
    prompts: ClassVar[dict[str, frozenset[str]]]  # fields that are prompts: the placeholders that each must have

    llm: str = Field(default_factory=_default_llm, validate_default=True)
    max_tokens: int | None = Field(default=None, ge=1)
    concurrency: int = Field(default=4, ge=1)

    @field_validator("llm")
    @classmethod
    def _exists(cls, value: str) -> str:
        from workers.llms.registry import check_llm_name

        check_llm_name(value)
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _has_placeholders(cls, value: object, info: ValidationInfo) -> object:
        needed = cls.prompts.get(info.field_name or "")
        if needed is not None and (found := _placeholders(str(value))) != needed:
            raise ValueError(
                f"the placeholders of this prompt must be {_shown(needed)}, not {_shown(found)}; "
                "a brace that is meant as such is written twice"
            )
        return value

    def __call__(self, nodes: list[Node]) -> list[Node]:
        """Ask about the nodes of one document, and add the answers to their metadata.

        Raises:
            TransientError: the provider did not answer; trying again may help.
            ConfigurationError: the provider refuses the key, the address or the model.
            TerminalError: the provider will never answer for this document.
        """
        from workers.process_loop import run_on_process_loop

        for node, found in zip(nodes, run_on_process_loop(self.extract(nodes)), strict=True):
            node.metadata = {**node.metadata, **{key: value for key, value in found.items() if value}}
        return nodes

    @property
    def asked_server(self) -> str:
        """The address of the server that is asked."""
        return self._model.server

    @property
    def _model(self) -> LLM:
        from workers.llms.registry import get_llm

        return get_llm(self.llm)

    @abstractmethod
    async def extract(self, nodes: list[Node]) -> list[dict[str, str]]:
        """What to add to the metadata, a mapping a node."""

    async def ask(self, prompts: Sequence[str]) -> list[str]:
        """An answer a prompt, in order, fit to be stored; empty where the model has none.

        Prompts that were answered before are not asked again; of the others, `concurrency` at once.
        """
        from workers.llms.remembered import known_answers
        from workers.providers.paid_jobs import run_paid_jobs

        answers = known_answers(self._model, prompts, self.max_tokens)
        unknown = [prompt for prompt in dict.fromkeys(prompts) if prompt not in answers]
        fresh = await run_paid_jobs((partial(self._ask_model, prompt) for prompt in unknown), workers=self.concurrency)
        answers |= zip(unknown, fresh, strict=True)
        return [answers[prompt] for prompt in prompts]

    async def _ask_model(self, prompt: str) -> str:
        from workers.llms.contract import Message
        from workers.llms.remembered import remember

        completion = await self._model.complete([Message("user", prompt)], max_tokens=self.max_tokens)
        text, _ = sanitize(completion.text)
        answer = text.strip()
        remember(self._model, prompt, self.max_tokens, answer)
        return answer


def unfenced(answer: str) -> str:
    """A short answer without the quotes and marks that models like to put around it."""
    return answer.strip(_FENCES)


def _placeholders(prompt: str) -> frozenset[str]:
    """The names in braces; ValueError where braces do not match, or do more than stand for a name."""
    found = set()
    for _, name, format, conversion in Formatter().parse(prompt):
        if format or conversion:
            raise ValueError(f"the placeholder {{{name}…}} may not be formatted")
        if name is not None:
            found.add(name)
    return frozenset(found)


def _shown(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names)) or "none"
