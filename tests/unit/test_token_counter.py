"""TokenCounter: tokens of texts, and the arithmetic of messages and tools."""

import json
import subprocess
import sys
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.contracts.errors import ConfigurationError, UnknownName
from workers.tokens import TokenCounter, Tokenizer, encoding_for_model, get_tokenizer

_CALL = {"name": "look_up", "arguments": '{"city": "Oslo"}'}


class _Role(StrEnum):
    USER = "user"
    TOOL = "tool"


@dataclass
class _Block:
    """A block as LlamaIndex makes it."""

    block_type: str
    text: str | None = None
    tool_name: str | None = None
    tool_kwargs: dict[str, Any] | None = None


@dataclass
class _ChatMessage:
    """A message as LlamaIndex makes it."""

    role: _Role
    blocks: list[_Block] = field(default_factory=list)
    additional_kwargs: dict[str, Any] = field(default_factory=dict)


def _words(text: str) -> list[str]:
    return text.split()


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    """A counter with the default tokenizer."""
    return TokenCounter()


def _tokens(*texts: str) -> int:
    return sum(get_tokenizer().count_many(texts))


# texts


def test_cl100k_base_is_the_default(counter: TokenCounter) -> None:
    """Without a tokenizer, texts are counted in cl100k_base."""
    text = "Straße, 日本語, 👩‍👩‍👧‍👦, <|endoftext|>\n\n    def f(x): ..."
    assert counter.get_string_tokens(text) == get_tokenizer("cl100k_base").count(text)
    assert counter.get_string_tokens("") == 0


def test_many_texts_are_counted_in_one_call(counter: TokenCounter) -> None:
    """get_strings_tokens answers one number a text, in order, for any iterable."""
    assert counter.get_strings_tokens(text for text in ("hello world", "", "hello")) == [2, 0, 1]


@pytest.mark.parametrize(
    "tokenizer",
    [_words, lambda text: len(_words(text)), lambda text: tuple(_words(text))],
    ids=["list", "number", "tuple"],
)
def test_any_function_of_a_text_is_a_tokenizer(tokenizer: Callable[[str], Any]) -> None:
    """A function that returns the tokens of a text, or their number, serves as tokenizer."""
    assert TokenCounter(tokenizer).get_strings_tokens(["one two three", "one"]) == [3, 1]


def test_an_encoding_or_a_tokenizer_may_be_given() -> None:
    """A tokenizer is given by the name of its encoding, or as a Tokenizer."""
    text = "Ein Text, der in beiden Kodierungen verschieden viele Token hat: 日本語の文章です。"
    expected = get_tokenizer("o200k_base").count(text)
    assert expected != get_tokenizer("cl100k_base").count(text)
    assert TokenCounter("o200k_base").get_string_tokens(text) == expected
    assert TokenCounter(Tokenizer("o200k_base")).get_string_tokens(text) == expected


def test_an_unknown_encoding_is_refused_at_once() -> None:
    """An encoding that is not carried is refused when the counter is made; the error lists those that are."""
    with pytest.raises(UnknownName, match="'p50k_base'; known here: cl100k_base, o200k_base"):
        TokenCounter("p50k_base")


def test_what_is_no_tokenizer_is_refused_at_once() -> None:
    """A tokenizer that is neither name nor function is refused when the counter is made, and named."""
    with pytest.raises(ConfigurationError, match=r"a function of a text, not 7"):
        TokenCounter(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("made", ["a text", None, UserDict({"input_ids": [1, 2], "attention_mask": [1, 1]})])
def test_a_tokenizer_that_makes_no_tokens_is_an_error(made: Any) -> None:
    """A function whose result has no number of tokens is an error, and not a wrong number."""
    with pytest.raises(ConfigurationError, match=f"returned a {type(made).__name__}; it must return a list of tokens"):
        TokenCounter(lambda text: made).get_string_tokens("a text")


def test_nothing_is_loaded_before_something_is_counted() -> None:
    """Making a counter loads no tokenizer."""
    program = (
        "import sys\nfrom workers import TokenCounter\nTokenCounter()\nprint({'tiktoken', 'toktok'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# models


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("ft:gpt-4o:acme::abc", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
    ],
)
def test_a_models_encoding_is_known_by_its_name(model: str, encoding: str) -> None:
    """The encoding of a model is found by its name: gpt-4o has o200k_base."""
    assert encoding_for_model(model) == encoding
    text = "日本語の文章です。"
    assert TokenCounter.for_model(model).get_string_tokens(text) == get_tokenizer(encoding).count(text)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "", "text-davinci-003"])
def test_an_unknown_model_is_an_error_or_the_given_default(model: str) -> None:
    """A model without a known encoding is an error that lists the encodings, unless a default is given."""
    with pytest.raises(ConfigurationError, match=f"{model!r}.*name an encoding .cl100k_base, o200k_base"):
        TokenCounter.for_model(model)
    assert encoding_for_model(model, default="cl100k_base") == "cl100k_base"


# messages


def test_a_message_costs_its_role_its_content_and_three(counter: TokenCounter) -> None:
    """A message counts tokens(role) + tokens(content) + 3, and messages add up."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a token, and why?"}]
    expected = _tokens("system", "Be brief.", "user", "What is a token, and why?") + 2 * 3
    assert counter.estimate_tokens_in_messages(messages) == expected
    assert counter.estimate_tokens_in_messages(iter(messages)) == expected
    assert counter.estimate_tokens_in_messages([]) == 0


@pytest.mark.parametrize("role", ["tool", "function", _Role.TOOL])
def test_the_answer_of_a_tool_costs_two_less(counter: TokenCounter, role: str) -> None:
    """A message of the role tool or function counts 2 less."""
    assert counter.estimate_tokens_in_messages([{"role": role, "content": "cloudy"}]) == _tokens(role, "cloudy") + 3 - 2


@pytest.mark.parametrize("call", [_CALL, SimpleNamespace(**_CALL)], ids=["dict", "object"])
@pytest.mark.parametrize("place", ["message", "additional_kwargs"])
def test_a_function_call_costs_name_arguments_and_three(counter: TokenCounter, call: object, place: str) -> None:
    """A function_call adds 3 and the tokens of name and arguments, whether dict or object."""
    extra = {"function_call": call}
    message = {"role": "assistant", "content": None} | (extra if place == "message" else {"additional_kwargs": extra})
    assert counter.estimate_tokens_in_messages([message]) == _tokens("assistant", *_CALL.values()) + 3 + 3


@pytest.mark.parametrize(
    "call",
    [
        {"id": "call_1", "type": "function", "function": _CALL},
        SimpleNamespace(id="call_1", function=SimpleNamespace(**_CALL)),
        {"id": "call_1", "function": SimpleNamespace(**_CALL)},
        SimpleNamespace(id="call_1", function=_CALL),
        {"name": "look_up", "args": {"city": "Oslo"}},
    ],
    ids=["dict", "object", "object-in-dict", "dict-in-object", "flat"],
)
@pytest.mark.parametrize("place", ["message", "additional_kwargs"])
def test_each_tool_call_costs_name_arguments_and_three(counter: TokenCounter, call: object, place: str) -> None:
    """Each tool call adds 3 and the tokens of name and arguments, whether dict or object."""
    extra = {"tool_calls": [call, call]}
    message = {"role": "assistant", "content": ""} | (extra if place == "message" else {"additional_kwargs": extra})
    assert counter.estimate_tokens_in_messages([message]) == _tokens("assistant") + 3 + 2 * (
        3 + _tokens(*_CALL.values())
    )


def test_calls_in_blocks_count_once(counter: TokenCounter) -> None:
    """A tool call that stands among the blocks of a message counts like any other, and once if it stands twice."""
    block = _Block("tool_call", tool_name="look_up", tool_kwargs={"city": "Oslo"})
    expected = _tokens("user", *_CALL.values()) + 3 + 3
    assert counter.estimate_tokens_in_messages([_ChatMessage(_Role.USER, [block])]) == expected
    twice = _ChatMessage(_Role.USER, [block], {"tool_calls": [{"function": _CALL}]})
    assert counter.estimate_tokens_in_messages([twice]) == expected
    anthropic = {"role": "user", "content": [{"type": "tool_use", "name": "look_up", "input": {"city": "Oslo"}}]}
    assert counter.estimate_tokens_in_messages([anthropic]) == expected


def test_messages_may_be_objects(counter: TokenCounter) -> None:
    """A message that is an object counts like the mapping with the same fields."""
    message = _ChatMessage(_Role.USER, [_Block("text", "What is"), _Block("text", "a token?")])
    assert counter.estimate_tokens_in_messages([message]) == _tokens("user", "What is", "a token?") + 3
    assert counter.estimate_tokens_in_messages(["a token?"]) == _tokens("a token?") + 3


@pytest.mark.parametrize("kind", ["image", "image_url", "input_image"])
def test_an_image_costs_2125(counter: TokenCounter, kind: str) -> None:
    """An image counts 2,125 tokens, whatever its size; its bytes are not counted."""
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": kind, kind: {"url": "data:image/png;base64," + "A" * 10_000}},
        {"type": kind},
    ]
    expected = _tokens("user", "What is this?") + 3 + 2 * 2125
    assert counter.estimate_tokens_in_messages([{"role": "user", "content": content}]) == expected
    objects = _ChatMessage(_Role.USER, [_Block("text", "What is this?"), _Block("image"), _Block("image")])
    assert counter.estimate_tokens_in_messages([objects]) == expected


def test_pydantic_blocks_are_blocks(counter: TokenCounter) -> None:
    """Blocks that are pydantic models, as SDKs return them, are read by their fields."""

    class Text(BaseModel):
        type: str = "text"
        text: str

    class Message(BaseModel):
        role: str = "assistant"
        content: list[Text]

    message = Message(content=[Text(text="a token?")])
    assert counter.estimate_tokens_in_messages([message]) == _tokens("assistant", "a token?") + 3


def test_answers_of_tools_within_blocks_are_read(counter: TokenCounter) -> None:
    """The content of a tool_result block is counted, and blocks that hold no text count nothing."""
    content = [
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "cloudy"}, {"type": "image"}]},
        {"type": "tool_result", "tool_use_id": "2", "content": "sunny"},
        {"type": "input_audio", "input_audio": {"data": "A" * 1000}},
    ]
    expected = _tokens("user", "cloudy", "sunny") + 2125 + 3
    assert counter.estimate_tokens_in_messages([{"role": "user", "content": content}]) == expected


def test_messages_are_counted_by_the_counters_own_tokenizer() -> None:
    """Role, content, calls and tools are all counted by the counter's own tokenizer."""
    counter = TokenCounter(_words)
    call = {"function": {"name": "look up", "arguments": "one two three"}}
    message = {"role": "user", "content": "four words of content", "tool_calls": [call]}
    assert counter.estimate_tokens_in_messages([message]) == 1 + 4 + 3 + (2 + 3 + 3)
    assert counter.estimate_tokens_in_tools([{"a": "b c"}]) == 3


@pytest.mark.parametrize("messages", ["What is a token?", {"role": "user", "content": "What is a token?"}])
def test_one_message_alone_is_refused(counter: TokenCounter, messages: Any) -> None:
    """One message where a list of them belongs is an error, and not a number."""
    with pytest.raises(ConfigurationError, match="messages must be a list of messages, not one"):
        counter.estimate_tokens_in_messages(messages)


# tools


def test_tools_cost_their_json(counter: TokenCounter) -> None:
    """Tools count the tokens of the list's JSON, and not of what Python prints."""
    function = {"name": "wetter", "description": "für Oslo", "strict": True, "parameters": None}
    tools = [{"type": "function", "function": function}]
    counted: list[str] = []

    def remember(text: str) -> int:
        counted.append(text)
        return 1

    TokenCounter(remember).estimate_tokens_in_tools(tools)
    assert counted == [json.dumps(tools, ensure_ascii=False)]
    assert counter.estimate_tokens_in_tools(tools) == _tokens(*counted)


@pytest.mark.parametrize("tools", [None, [], ()])
def test_no_tools_cost_nothing(counter: TokenCounter, tools: Any) -> None:
    """No tools count 0."""
    assert counter.estimate_tokens_in_tools(tools) == 0


def test_tools_may_be_objects(counter: TokenCounter) -> None:
    """Dataclasses, pydantic models and LlamaIndex tools count like the mapping that describes them."""

    class Model(BaseModel):
        name: str

    @dataclass
    class Data:
        name: str

    mapping = {"name": "look_up"}
    llama = SimpleNamespace(metadata=SimpleNamespace(to_openai_tool=lambda: mapping))
    expected = counter.estimate_tokens_in_tools([mapping])
    for tool in (Model(name="look_up"), Data("look_up"), UserDict(mapping), llama):
        assert counter.estimate_tokens_in_tools([tool]) == expected


def test_what_is_no_tool_is_an_error(counter: TokenCounter) -> None:
    """A tool that nothing can describe as JSON is an error that names its kind."""
    with pytest.raises(ConfigurationError, match="not a object"):
        counter.estimate_tokens_in_tools([object()])
