"""TitleExtractor: one title for the whole document, out of what its first nodes seem to be about."""

from typing import ClassVar

from pydantic import Field

from orchestrator.contracts.nodes import Node
from workers.transformations.contract import transformation
from workers.transformations.extractors.contract import Extractor, unfenced

__all__ = ["TitleExtractor"]

_NODE_PROMPT = """\
Here is an excerpt of a document:

{context_str}

Propose a title for the document that names the subjects, names and things it is about. Answer with the title alone."""

_COMBINE_PROMPT = """\
Here are titles that were proposed for one document, each after reading another part of it, one a line:

{context_str}

Which title covers the whole document best? Answer with that title alone; it may be a new one."""


@transformation("title_extractor", version=1)
class TitleExtractor(Extractor):
    """Add `document_title` to every node: `TitleExtractor(llm="openai/<model>")`.

    The model proposes a title for each of the first nodes, and then chooses, unless all proposals are the same.

    Attributes:
        nodes: how many nodes of a document to read, from the first on.
        node_template: asks for a title of one node, `{context_str}`.
        combine_template: asks to choose among the titles, `{context_str}`, one a line.
    """

    prompts: ClassVar[dict[str, frozenset[str]]] = {
        "node_template": frozenset({"context_str"}),
        "combine_template": frozenset({"context_str"}),
    }

    nodes: int = Field(default=5, ge=1)
    node_template: str = _NODE_PROMPT
    combine_template: str = _COMBINE_PROMPT

    async def extract(self, nodes: list[Node]) -> list[dict[str, str]]:
        """The same title for all nodes."""
        answers = await self.ask([self.node_template.format(context_str=node.text) for node in nodes[: self.nodes]])
        titles = list(dict.fromkeys(title for answer in answers if (title := unfenced(answer))))
        if len(titles) > 1:
            (chosen,) = await self.ask([self.combine_template.format(context_str="\n".join(titles))])
            titles = [unfenced(chosen) or titles[0]]
        return [{"document_title": "".join(titles)}] * len(nodes)
