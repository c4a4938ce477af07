"""KeywordsExtractor: the words under which a node should be found."""

from typing import ClassVar

from pydantic import Field

from orchestrator.contracts.nodes import Node
from workers.transformations.contract import transformation
from workers.transformations.extractors.contract import Extractor, unfenced

__all__ = ["KeywordsExtractor"]

_PROMPT = """\
Here is an excerpt of a document:

{context_str}

Give {keywords} different keywords for it, none of them a common word. Answer with the keywords alone, on one line, \
separated by commas."""


@transformation("keywords_extractor", version=1)
class KeywordsExtractor(Extractor):
    """Add `excerpt_keywords` to every node, separated by commas: `KeywordsExtractor(llm="openai/<model>", keywords=9)`.

    Attributes:
        keywords: how many to ask for.
        prompt_template: asks for `{keywords}` keywords of a node, `{context_str}`.
    """

    prompts: ClassVar[dict[str, frozenset[str]]] = {"prompt_template": frozenset({"context_str", "keywords"})}

    keywords: int = Field(default=5, ge=1)
    prompt_template: str = _PROMPT

    async def extract(self, nodes: list[Node]) -> list[dict[str, str]]:
        """The keywords of each node."""
        answers = await self.ask(
            [self.prompt_template.format(context_str=node.text, keywords=self.keywords) for node in nodes]
        )
        return [{"excerpt_keywords": unfenced(answer)} for answer in answers]
