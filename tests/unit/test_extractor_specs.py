"""Extractors as plain data: what names their output, and what is refused when they are made."""

import pytest
from pydantic import ValidationError

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.contracts.spec import TransformationSpec
from workers.transformations import (
    KeywordsExtractor,
    QuestionsAnsweredExtractor,
    SummaryExtractor,
    TitleExtractor,
)
from workers.transformations.contract import build_transformation
from workers.transformations.extractors.contract import Extractor

_LLM = "openai/small"
_EXTRACTORS: list[type[Extractor]] = [TitleExtractor, SummaryExtractor, KeywordsExtractor, QuestionsAnsweredExtractor]


@pytest.mark.parametrize("kind", _EXTRACTORS)
def test_a_spec_builds_the_extractor_it_came_from(kind: type[Extractor]) -> None:
    """From an extractor to its spec, through JSON, and back by its registered name gives an equal one."""
    extractor = kind(llm=_LLM, max_tokens=50, concurrency=2)
    spec = TransformationSpec.model_validate_json(extractor.spec().model_dump_json())
    assert build_transformation(spec) == extractor


def test_the_fingerprint_holds_model_prompts_and_numbers() -> None:
    """Whatever changes an answer is in the fingerprint; how many are asked at once is not."""
    base = KeywordsExtractor(llm=_LLM).spec().fingerprint
    assert KeywordsExtractor(llm=_LLM, concurrency=9).spec().fingerprint == base
    others = [
        KeywordsExtractor(llm="openai/large"),
        KeywordsExtractor(llm=_LLM, keywords=6),
        KeywordsExtractor(llm=_LLM, max_tokens=9),
        KeywordsExtractor(llm=_LLM, prompt_template="{keywords} of {context_str}"),
    ]
    assert len({base, *(other.spec().fingerprint for other in others)}) == 5


def test_the_setting_names_the_model_where_the_extractor_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `llm` the setting of the client counts, and travels in the spec; without either there is an error."""
    with pytest.raises(ConfigurationError, match=r"give llm='openai/<model>', or set DOCMILL_LLM"):
        TitleExtractor()
    monkeypatch.setenv("DOCMILL_LLM", _LLM)
    assert TitleExtractor().spec().parameters["llm"] == _LLM
    monkeypatch.setenv("DOCMILL_LLM", "parrot")
    with pytest.raises(ValidationError, match="unknown language model 'parrot'"):
        TitleExtractor()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("Keywords!", "{context_str}, {keywords}, not none"),
        ("{context_str}", "not {context_str}"),
        ("{context_str} {keywords} {title}", "not {context_str}, {keywords}, {title}"),
        ("{context_str.__class__} {keywords}", "{context_str.__class__}"),
        ("{context_str:9} {keywords}", "may not be formatted"),
        ("{context_str!r} {keywords}", "may not be formatted"),
        ("{context_str} {keywords} {", "'{'"),
    ],
)
def test_a_prompt_with_wrong_placeholders_is_refused(prompt: str, words: str) -> None:
    """A prompt must have its placeholders, and nothing else in braces; the error says which."""
    with pytest.raises(ValidationError) as caught:
        KeywordsExtractor(llm=_LLM, prompt_template=prompt)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TitleExtractor(llm=_LLM, nodes=0),
        lambda: KeywordsExtractor(llm=_LLM, keywords=0),
        lambda: QuestionsAnsweredExtractor(llm=_LLM, questions=0),
        lambda: SummaryExtractor(llm=_LLM, summaries=()),
        lambda: SummaryExtractor.model_validate({"llm": _LLM, "summaries": ["both"]}),
        lambda: TitleExtractor(llm=_LLM, concurrency=0),
        lambda: TitleExtractor(llm=_LLM, max_tokens=0),
        lambda: TitleExtractor(llm=""),
    ],
)
def test_numbers_out_of_range_are_refused(make: type[Extractor]) -> None:
    """An extractor that could ask nothing, or nobody, is refused when it is made."""
    with pytest.raises(ValidationError):
        make()
