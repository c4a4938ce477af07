"""QuestionsAnsweredExtractor: the questions that a node answers, near to which those of users will be."""

from typing import ClassVar

from pydantic import Field

from orchestrator.contracts.nodes import Node
from workers.transformations.contract import transformation
from workers.transformations.extractors.contract import Extractor

__all__ = ["QuestionsAnsweredExtractor"]

_PROMPT = """\
Here is an excerpt of a document:

{context_str}

Write {num_questions} questions that this excerpt answers, and that would be hard to answer from anything else. \
Answer with the questions alone, one a line."""


@transformation("questions_answered_extractor", version=1)
class QuestionsAnsweredExtractor(Extractor):
    """Add `questions_this_excerpt_can_answer` to every node, one a line.

    `QuestionsAnsweredExtractor(llm="openai/<model>", questions=3)`.

    Attributes:
        questions: how many to ask for.
        prompt_template: asks for `{num_questions}` questions about a node, `{context_str}`.
    """

    prompts: ClassVar[dict[str, frozenset[str]]] = {"prompt_template": frozenset({"context_str", "num_questions"})}

    questions: int = Field(default=5, ge=1)
    prompt_template: str = _PROMPT

    async def extract(self, nodes: list[Node]) -> list[dict[str, str]]:
        """The questions of each node."""
        answers = await self.ask(
            [self.prompt_template.format(context_str=node.text, num_questions=self.questions) for node in nodes]
        )
        return [{"questions_this_excerpt_can_answer": answer} for answer in answers]
