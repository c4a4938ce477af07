"""TokenCountingHandler: the provider's numbers first, an estimate where they are missing, and a budget over all."""

import gc
import logging
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.contracts.errors import ConfigurationError, TerminalError, TokenBudgetExceeded, UnknownName
from workers.tokens import TokenCountingHandler, TokenEvent, TokenUsage

_REPORTS: dict[str, tuple[dict[str, Any], TokenUsage]] = {
    "openai chat": (
        {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
        TokenUsage(prompt=10, completion=4),
    ),
    "openai chat, cached": (
        {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}},
        TokenUsage(prompt=10, completion=4, cached=8),
    ),
    "openai responses": (
        {"input_tokens": 10, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 8}},
        TokenUsage(prompt=10, completion=4, cached=8),
    ),
    "anthropic": (
        {
            "input_tokens": 10,
            "output_tokens": 4,
            "cache_read_input_tokens": 200,
            "cache_creation_input_tokens": 30,
        },
        TokenUsage(prompt=240, completion=4, cached=200),
    ),
    "anthropic, uncached": (
        {"input_tokens": 10, "output_tokens": 4, "cache_read_input_tokens": None, "cache_creation_input_tokens": 0},
        TokenUsage(prompt=10, completion=4),
    ),
    "anthropic by a gateway": (
        {"prompt_tokens": 240, "completion_tokens": 4, "cache_read_input_tokens": 200},
        TokenUsage(prompt=240, completion=4, cached=200),
    ),
    "gemini": (
        {"prompt_token_count": 10, "candidates_token_count": 4, "cached_content_token_count": 8},
        TokenUsage(prompt=10, completion=4, cached=8),
    ),
    "gemini, thinking": (
        {"prompt_token_count": 10, "candidates_token_count": 4, "thoughts_token_count": 6},
        TokenUsage(prompt=10, completion=10),
    ),
}


def _words(text: str) -> list[str]:
    return text.split()


def _object(value: Any) -> Any:
    return SimpleNamespace(**{key: _object(item) for key, item in value.items()}) if isinstance(value, dict) else value


@pytest.fixture
def handler() -> TokenCountingHandler:
    """A handler that counts words, so that an estimate can be seen."""
    return TokenCountingHandler(_words)


# usage


@pytest.mark.parametrize(("report", "expected"), _REPORTS.values(), ids=_REPORTS)
def test_all_spellings_of_providers_are_read(report: dict[str, Any], expected: TokenUsage) -> None:
    """Usage is read under every provider's names, as mapping or object; cached tokens are added only for Anthropic."""
    assert TokenUsage.from_provider(report) == expected
    assert TokenUsage.from_provider(_object(report)) == expected


@pytest.mark.parametrize(
    "report", [None, {}, {"prompt_tokens": None}, {"prompt_tokens": "many"}, {"cost": 3}, object()]
)
def test_a_report_without_numbers_is_none(report: object) -> None:
    """A provider's usage that holds no number of tokens is no usage."""
    assert TokenUsage.from_provider(report) is None


@pytest.mark.parametrize("wrong", [-1, True, 1.5, "7"])
def test_what_is_no_number_of_tokens_is_missing(wrong: object) -> None:
    """A value that is no whole number from 0 on counts as missing."""
    assert TokenUsage.from_provider({"prompt_tokens": wrong, "completion_tokens": 4}) == TokenUsage(completion=4)


def test_usages_add_up() -> None:
    """A sum of usages has the sums of their numbers, and is estimated if a part of it is."""
    total = TokenUsage(1, 2, 3, 4) + TokenUsage(10, 20, 30, 40, estimated=True)
    assert total == TokenUsage(11, 22, 33, 44, estimated=True)
    assert total.total == 11 + 22 + 33
    assert not (TokenUsage(1) + TokenUsage(2)).estimated


# the provider first, then an estimate


@pytest.mark.parametrize(("report", "expected"), _REPORTS.values(), ids=_REPORTS)
def test_the_providers_numbers_come_first(
    handler: TokenCountingHandler, report: dict[str, Any], expected: TokenUsage
) -> None:
    """What the provider reports is counted, whatever the texts look like."""
    event = handler.on_llm(report, prompt="some words of a prompt", completion="and an answer")
    assert event.usage == expected
    assert not event.estimated
    assert handler.prompt_llm_token_count == expected.prompt
    assert handler.completion_llm_token_count == expected.completion
    assert handler.total_llm_token_count == expected.prompt + expected.completion
    assert handler.usage.cached == expected.cached


def test_without_a_report_all_is_estimated(handler: TokenCountingHandler) -> None:
    """Where the provider reports nothing, prompt and completion are estimated, and the event says so."""
    event = handler.on_llm(prompt="three words here", completion="two words")
    assert event.usage == TokenUsage(prompt=3, completion=2, estimated=True)
    assert event.estimated == {"prompt", "completion"}


@pytest.mark.parametrize(
    ("report", "expected", "estimated"),
    [
        ({"prompt_tokens": 10}, TokenUsage(10, 2, estimated=True), {"completion"}),
        ({"completion_tokens": 7}, TokenUsage(3, 7, estimated=True), {"prompt"}),
        ({"prompt_tokens": 0, "completion_tokens": 7}, TokenUsage(3, 7, estimated=True), {"prompt"}),
        ({"prompt_tokens": 10, "completion_tokens": 0}, TokenUsage(10, 0), set()),
    ],
)
def test_only_what_is_missing_is_estimated(
    handler: TokenCountingHandler, report: dict[str, int], expected: TokenUsage, estimated: set[str]
) -> None:
    """Each number that the provider left out is estimated, and no other; a prompt of 0 is one it did not count."""
    event = handler.on_llm(report, prompt="three words here", completion="two words")
    assert event.usage == expected
    assert set(event.estimated) == estimated


def test_a_missing_completion_counts_nothing(handler: TokenCountingHandler) -> None:
    """A completion that is missing counts 0, and not the word None."""
    event = handler.on_llm(prompt="three words here", completion=None)
    assert event.usage == TokenUsage(prompt=3, estimated=True)
    assert handler.completion_llm_token_count == 0
    assert handler.on_llm().usage == TokenUsage()


def test_messages_and_tools_are_estimated_as_such(handler: TokenCountingHandler) -> None:
    """A prompt of chat messages with tools, and an answer that is a message, are estimated by the counter."""
    messages = [{"role": "user", "content": "three words here"}]
    tools = [{"name": "look_up"}]
    answer = {"role": "assistant", "content": "two words"}
    event = handler.on_llm(prompt=messages, completion=answer, tools=tools)
    counter = handler.counter
    assert event.usage.prompt == (1 + 3 + 3) + counter.estimate_tokens_in_tools(tools)
    assert event.usage.completion == 1 + 2 + 3


def test_a_usage_is_taken_as_it_is(handler: TokenCountingHandler) -> None:
    """A TokenUsage that is handed in is counted as it is."""
    usage = TokenUsage(prompt=5, completion=0, estimated=True)
    assert handler.on_llm(usage, prompt="three words here", completion="two words").usage == usage


def test_embeddings_are_counted(handler: TokenCountingHandler) -> None:
    """Embedded texts count what the provider reports as its prompt, and are estimated where it reports nothing."""
    texts = ["three words here", "two words"]
    for usage in ({"prompt_tokens": 12, "total_tokens": 12}, TokenUsage(prompt=12), TokenUsage(embedding=12)):
        assert handler.on_embedding(texts, usage).usage == TokenUsage(embedding=12)
    for missing in (None, {}, {"prompt_tokens": 0, "total_tokens": 0}):
        event = handler.on_embedding(iter(texts), missing)
        assert event.usage == TokenUsage(embedding=5, estimated=True)
        assert event.estimated == {"embedding"}
    assert handler.total_embedding_token_count == 3 * 12 + 3 * 5
    assert handler.total_llm_token_count == 0
    assert handler.on_embedding([]).estimated == frozenset()


def test_the_default_tokenizer_estimates() -> None:
    """Without a tokenizer, estimates are made in cl100k_base; an unknown one is refused at once."""
    assert TokenCountingHandler().on_llm(prompt="hello world").usage.prompt == 2
    with pytest.raises(UnknownName, match="p50k_base"):
        TokenCountingHandler("p50k_base")


# sums


def test_sums_are_kept_by_model_and_transformation(handler: TokenCountingHandler) -> None:
    """The handler knows the sums of each model and transformation, and the sum of all."""
    handler.on_llm(TokenUsage(10, 1), model="gpt-4o", transformation="title")
    handler.on_llm(TokenUsage(20, 2), model="gpt-4o", transformation="title")
    handler.on_llm(TokenUsage(5, 5), model="gpt-4o", transformation="summary")
    handler.on_embedding(usage=TokenUsage(prompt=7), model="text-embedding-3-small", transformation="embed")
    assert handler.usage_by_source == {
        ("gpt-4o", "title"): TokenUsage(30, 3),
        ("gpt-4o", "summary"): TokenUsage(5, 5),
        ("text-embedding-3-small", "embed"): TokenUsage(embedding=7),
    }
    assert handler.usage == TokenUsage(35, 8, 7)


def test_events_of_elsewhere_can_be_added(handler: TokenCountingHandler) -> None:
    """An event that was made elsewhere is added like one's own."""
    event = TokenEvent("llm", TokenUsage(3, 4), model="gpt-4o")
    assert handler.on_event(event) is event
    assert handler.total_llm_token_count == 7


def test_memory_does_not_grow_with_the_number_of_calls() -> None:
    """A thousand calls take no more memory than a hundred: texts are not kept."""
    handler = TokenCountingHandler(_words)

    def call(times: int) -> int:
        for number in range(times):
            handler.on_llm(prompt=f"{number} " * 100, completion=f"{number} " * 100, model="gpt-4o")
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    few = call(100)
    many = call(1_000)
    tracemalloc.stop()
    assert many - few < 2_000
    assert handler.events == []


def test_texts_are_kept_when_asked_for() -> None:
    """With keep_events, events and the texts that went in and out are there to be read."""
    handler = TokenCountingHandler(_words, keep_events=True)
    handler.on_llm(prompt="three words here", completion="two words", model="gpt-4o")
    handler.on_embedding(text for text in ("one", "two"))
    assert [(event.kind, event.model, event.texts) for event in handler.events] == [
        ("llm", "gpt-4o", ("three words here", "two words")),
        ("embedding", "", ("one", "two")),
    ]
    assert handler.total_embedding_token_count == 2


def test_counts_can_be_reset() -> None:
    """reset_counts begins at 0 again, with a whole budget and no events."""
    handler = TokenCountingHandler(_words, token_budget=10, keep_events=True)
    handler.on_llm(TokenUsage(4, 5))
    handler.reset_counts()
    assert (handler.usage, handler.usage_by_source, handler.events) == (TokenUsage(), {}, [])
    handler.on_llm(TokenUsage(5, 5))
    assert handler.total_llm_token_count == 10


def test_threads_lose_no_count() -> None:
    """Calls of many threads at once add up exactly."""
    handler = TokenCountingHandler(_words)

    def call(number: int) -> None:
        for _ in range(500):
            handler.on_llm(TokenUsage(prompt=1, completion=2), model=str(number % 2))
            handler.on_embedding(["one two three"])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(8)))
    assert handler.usage == TokenUsage(4000, 8000, 12_000, estimated=True)
    assert sum((usage.total for usage in handler.usage_by_source.values()), 0) == 24_000


# the budget


def test_the_budget_covers_everything() -> None:
    """Prompts, completions and embeddings together may spend the budget, and not a token more."""
    handler = TokenCountingHandler(token_budget=100)
    handler.on_llm(TokenUsage(prompt=40, completion=10))
    handler.on_embedding(usage=TokenUsage(prompt=50))
    with pytest.raises(TokenBudgetExceeded, match="budget of 100 tokens is exceeded: 101 are spent") as caught:
        handler.on_embedding(usage=TokenUsage(prompt=1))
    assert (caught.value.budget, caught.value.spent) == (100, 101)
    assert isinstance(caught.value, TerminalError)


def test_what_exceeds_the_budget_is_counted() -> None:
    """The call that exceeds the budget was paid for, and is in the sums."""
    handler = TokenCountingHandler(token_budget=10, keep_events=True)
    with pytest.raises(TokenBudgetExceeded):
        handler.on_llm(TokenUsage(prompt=8, completion=7))
    assert handler.total_llm_token_count == 15
    assert len(handler.events) == 1


def test_the_budget_can_be_asked_before_a_call() -> None:
    """check_budget raises before a call that the budget has no tokens left for."""
    handler = TokenCountingHandler(token_budget=100)
    handler.on_embedding(usage=TokenUsage(prompt=90))
    handler.check_budget()
    handler.check_budget(planned=10)
    with pytest.raises(TokenBudgetExceeded, match="90 are spent, and 11 more are asked for; raise token_budget"):
        handler.check_budget(planned=11)
    handler.on_embedding(usage=TokenUsage(prompt=10))
    with pytest.raises(TokenBudgetExceeded):
        handler.check_budget()
    TokenCountingHandler().check_budget(planned=10**12)


@pytest.mark.parametrize("budget", [0, -5, 1.5, True, "100"])
def test_a_budget_of_nothing_is_refused(budget: Any) -> None:
    """A budget of 0 or less is refused when the handler is made; the error names the value and the allowed range."""
    with pytest.raises(ConfigurationError, match=rf"token_budget must be .* from 1 on, or None .*, not {budget!r}"):
        TokenCountingHandler(token_budget=budget)


# the log


@pytest.fixture
def logger(caplog: pytest.LogCaptureFixture) -> Iterator[logging.Logger]:
    """A logger whose records are caught."""
    with caplog.at_level(logging.DEBUG, logger="bill"):
        yield logging.getLogger("bill")


@pytest.mark.parametrize(("verbose", "level"), [(False, "DEBUG"), (True, "INFO")])
def test_a_logger_gets_a_line_a_call(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture, verbose: bool, level: str
) -> None:
    """A logger gets one line a call, which says what was estimated; verbose raises its level."""
    handler = TokenCountingHandler(_words, logger=logger, verbose=verbose)
    handler.on_llm({"prompt_tokens": 1000}, completion="two words", model="gpt-4o")
    handler.on_embedding(usage=TokenUsage(prompt=7))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (level, "tokens of llm gpt-4o: prompt 1,000, completion 2 (estimated); 1,002 so far"),
        (level, "tokens of embedding call: embedding 7; 1,009 so far"),
    ]


def test_verbose_alone_writes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a logger, verbose writes the line to standard error, and nothing is written otherwise."""
    TokenCountingHandler(verbose=True).on_llm(TokenUsage(1, 2))
    assert capsys.readouterr() == ("", "tokens of llm call: prompt 1, completion 2; 3 so far\n")
    TokenCountingHandler().on_llm(TokenUsage(1, 2))
    assert capsys.readouterr() == ("", "")
