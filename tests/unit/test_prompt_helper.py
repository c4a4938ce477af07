"""PromptHelper: texts fitted beside a prompt into the context window, with room for the answer."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.settings import load_settings
from workers.prompt_helper import PromptHelper
from workers.tokens import get_tokenizer

_PROMPT = "Answer from these texts:\n"
_PROMPT_TOKENS = get_tokenizer().count(_PROMPT)
_SENTENCES = " ".join(f"This is sentence number {number}, and it says little." for number in range(400))


def _tokens(text: str) -> int:
    return get_tokenizer().count(text)


def _words(text: str) -> list[str]:
    return text.split()


# sizes


def test_what_is_left_is_the_window_less_prompt_and_answer() -> None:
    """The available context size is the context window less the prompt's tokens and the room for the answer."""
    assert PromptHelper().available_context_size(_PROMPT) == 3900 - 256 - _PROMPT_TOKENS
    assert PromptHelper(1000, 100).available_context_size("") == 900


def test_messages_and_tools_are_part_of_the_prompt() -> None:
    """A prompt of chat messages counts as a provider would bill it, and tools take room as well."""
    helper = PromptHelper(1000, 100)
    messages = [{"role": "user", "content": "hello world"}]
    assert helper.available_context_size(messages) == 900 - (1 + 2 + 3)
    tools = [{"name": "look_up"}]
    left = helper.available_context_size(messages, tools=tools)
    assert left == 900 - 6 - helper.counter.estimate_tokens_in_tools(tools)


def test_chunks_share_what_is_left() -> None:
    """The available chunk size is an equal share of what is left, less a padding, and within the limit."""
    left = 3900 - 256 - _PROMPT_TOKENS
    assert PromptHelper().available_chunk_size(_PROMPT) == left - 5
    assert PromptHelper().available_chunk_size(_PROMPT, num_chunks=7, padding=1) == left // 7 - 1
    assert PromptHelper(chunk_size_limit=100).available_chunk_size(_PROMPT) == 100
    assert PromptHelper(chunk_size_limit=10_000).available_chunk_size(_PROMPT) == left - 5


def test_a_prompt_that_does_not_fit_is_an_error() -> None:
    """A prompt that leaves no room is an error that names its size, the window and the room for the answer."""
    helper = PromptHelper(context_window=3000, num_output=1000)
    with pytest.raises(
        ConfigurationError,
        match=r"prompt of 2,500 tokens leaves no room.*context_window 3,000 less num_output 1,000 is 2,000",
    ):
        helper.available_context_size("a " * 2499 + "a")
    with pytest.raises(ConfigurationError, match="leaves no room for text"):
        helper.repack("a " * 1999 + "a", ["text"])


def test_too_many_texts_are_an_error() -> None:
    """More texts than there is room for are an error that names their number and the room."""
    helper = PromptHelper(context_window=200, num_output=100)
    with pytest.raises(ConfigurationError, match="50 texts do not fit beside the prompt: 100 tokens are left for them"):
        helper.truncate("", ["text"] * 50)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"context_window": 0}, "context_window must be at least 1 token, not 0"),
        ({"num_output": -1}, "num_output must be from 0 to less than context_window 3900, not -1"),
        ({"num_output": 3900}, "num_output must be from 0 to less than context_window 3900, not 3900"),
        ({"chunk_overlap_ratio": -0.1}, r"chunk_overlap_ratio must be from 0 to less than 1, not -0\.1"),
        ({"chunk_overlap_ratio": 1.0}, r"chunk_overlap_ratio must be from 0 to less than 1, not 1\.0"),
        ({"chunk_size_limit": 0}, "chunk_size_limit must be at least 1 token, or None, not 0"),
        ({"tokenizer": "p50k_base"}, "unknown encoding 'p50k_base'"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    """A size that is out of range is refused when the helper is made; the error names the value and the range."""
    with pytest.raises(ConfigurationError, match=message):
        PromptHelper(**wrong)


@pytest.mark.parametrize(("num_chunks", "padding"), [(0, 5), (1, -1)])
def test_a_division_that_makes_no_sense_is_refused(num_chunks: int, padding: int) -> None:
    """Fewer than one text, or a negative padding, is an error."""
    with pytest.raises(ConfigurationError, match="must be at least"):
        PromptHelper().available_chunk_size("", num_chunks, padding)


# truncate


def test_truncated_texts_fit_together() -> None:
    """truncate cuts each text to its share: all of them, prompt and answer fit into the context window."""
    helper = PromptHelper(context_window=1000, num_output=100)
    texts = [_SENTENCES, "short", _SENTENCES[500:]]
    cut = helper.truncate(_PROMPT, texts)
    assert len(cut) == 3
    assert cut[1] == "short"
    assert _PROMPT_TOKENS + sum(map(_tokens, cut)) + 100 <= 1000
    for text, whole in zip(cut, texts, strict=True):
        assert whole.lstrip().startswith(text)
    assert cut[0].endswith(".")
    assert _tokens(cut[0]) > 200  # of some 290


def test_texts_that_fit_are_left_alone() -> None:
    """truncate returns texts that fit as they are, white space included, and nothing for nothing."""
    assert PromptHelper().truncate(_PROMPT, ["  short \n\n", ""]) == ["  short \n\n", ""]
    assert PromptHelper().truncate(_PROMPT, []) == []


@given(
    texts=st.lists(st.text(st.characters(), max_size=60) | st.just("日本語の👩‍👩‍👧‍👦 " * 20), max_size=4),
    room=st.integers(1, 40),
)
def test_whatever_the_texts_they_fit(texts: list[str], room: int) -> None:
    """Truncated texts of any characters have no more tokens than their share."""
    helper = PromptHelper(context_window=max(1, len(texts)) * room, num_output=0)
    assert all(_tokens(text) <= room for text in helper.truncate("", texts, padding=0))


# repack


def test_repacked_texts_are_few_and_fit() -> None:
    """repack joins texts into as few chunks as fit into a prompt each, and leaves empty ones out."""
    helper = PromptHelper(context_window=400, num_output=100, chunk_overlap_ratio=0)
    texts = [f"Paragraph {number} is a short one, and there are many of its kind." for number in range(60)]
    packed = helper.repack(_PROMPT, [*texts, "  ", ""])
    assert "\n\n".join(packed) == "\n\n".join(texts)
    assert all(_PROMPT_TOKENS + _tokens(text) + 100 <= 400 for text in packed)
    total = _tokens("\n\n".join(texts))
    assert len(packed) == -(-total // (helper.available_chunk_size(_PROMPT) - 20))
    assert helper.repack(_PROMPT, []) == helper.repack(_PROMPT, [" \n"]) == []


def test_small_texts_become_one() -> None:
    """Texts that fit together become one chunk, with an empty line between them."""
    assert PromptHelper().repack(_PROMPT, [" one ", "two\n"]) == ["one\n\ntwo"]


def test_repacked_chunks_overlap_by_the_ratio() -> None:
    """Neighbouring chunks share text, of at most `chunk_overlap_ratio` of their size."""
    helper = PromptHelper(context_window=300, num_output=100, chunk_overlap_ratio=0.3)
    packed = helper.repack("", [_SENTENCES])
    assert len(packed) > 2
    for one, other in pairwise(packed):
        shared = next(length for length in range(len(other), -1, -1) if one.endswith(other[:length]))
        assert 0 < _tokens(other[:shared]) <= 0.3 * 195


def test_the_limit_bounds_repacked_chunks() -> None:
    """No chunk is larger than chunk_size_limit, even where more would fit."""
    packed = PromptHelper(chunk_size_limit=50, chunk_overlap_ratio=0).repack(_PROMPT, [_SENTENCES])
    assert max(map(_tokens, packed)) <= 50


def test_the_helper_counts_by_its_own_tokenizer() -> None:
    """Sizes are counted, and texts cut, by the tokenizer that the helper was given."""
    helper = PromptHelper(context_window=30, num_output=10, tokenizer=_words)
    assert helper.available_context_size("two words") == 18
    (cut,) = helper.truncate("two words", [_SENTENCES], padding=0)
    assert cut.endswith(".")
    assert 9 <= len(_words(cut)) <= 18
    assert all(len(_words(text)) <= 13 for text in helper.repack("two words", [_SENTENCES]))


def test_hard_texts_are_repacked_in_no_time() -> None:
    """Long runs of blank lines and lone surrogates are packed like any other text."""
    packed = PromptHelper(200, 100).repack("", ["first" + "\n" * 100_000 + "second \ud800"])
    assert packed == ["first\n\nsecond \ufffd"]


def test_settings_give_window_answer_and_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper made from the settings keeps to their context window, room for the answer and tokenizer."""
    monkeypatch.setenv("DOCMILL_CONTEXT_WINDOW", "1000")
    helper = PromptHelper.from_settings(load_settings(num_output=100, tokenizer="o200k_base"))
    assert (helper.context_window, helper.num_output) == (1000, 100)
    word = "Donaudampfschifffahrtsgesellschaft"
    counts = [get_tokenizer(name).count(word) for name in ("o200k_base", "cl100k_base")]
    assert helper.counter.get_string_tokens(word) == counts[0] != counts[1]
    assert PromptHelper.from_settings().num_output == 256
