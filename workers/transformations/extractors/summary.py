"""SummaryExtractor: what each node says in short, and what its neighbours say."""

from typing import ClassVar, Literal

from pydantic import Field

from orchestrator.contracts.nodes import Node
from workers.transformations.contract import transformation
from workers.transformations.extractors.contract import Extractor

__all__ = ["SummaryExtractor"]

_PROMPT = """\
Here is a section of a document:

{context_str}

Summarize its subjects, names and things in a few sentences. Answer with the summary alone."""

_PLACES = {"prev": -1, "self": 0, "next": 1}
_KEYS = {"prev": "prev_section_summary", "self": "section_summary", "next": "next_section_summary"}


@transformation("summary_extractor", version=1)
class SummaryExtractor(Extractor):
    """Add summaries to every node: `SummaryExtractor(llm="openai/<model>", summaries=("self", "prev"))`.

    Attributes:
        summaries: whose: `self` adds `section_summary`, `prev` and `next` add `prev_section_summary` and
            `next_section_summary`, which cost nothing more where `self` or both are asked for.
        prompt_template: asks for the summary of a node, `{context_str}`.
    """

    prompts: ClassVar[dict[str, frozenset[str]]] = {"prompt_template": frozenset({"context_str"})}

    summaries: tuple[Literal["self", "prev", "next"], ...] = Field(default=("self",), min_length=1)
    prompt_template: str = _PROMPT

    async def extract(self, nodes: list[Node]) -> list[dict[str, str]]:
        """Each node summarized once, where any summary needs it."""
        needed = sorted(
            {
                index + _PLACES[place]
                for index in range(len(nodes))
                for place in self.summaries
                if 0 <= index + _PLACES[place] < len(nodes)
            }
        )
        answers = await self.ask([self.prompt_template.format(context_str=nodes[index].text) for index in needed])
        summaries = dict(zip(needed, answers, strict=True))
        return [
            {_KEYS[place]: summaries.get(index + _PLACES[place], "") for place in self.summaries}
            for index in range(len(nodes))
        ]
