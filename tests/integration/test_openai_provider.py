"""Models of a server that speaks OpenAI's API, over real HTTP: answers, bills, and everything that can go wrong."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from orchestrator.contracts.errors import (
    ConfigurationError,
    ServiceUnreachable,
    TerminalError,
    TokenBudgetExceeded,
    TransientError,
    UnknownName,
)
from orchestrator.ledger.failures import Failure
from orchestrator.runtime import worker_environment
from orchestrator.settings import load_settings
from tests.openai_server import Fault, OpenAIStub, openai_stub, vector
from workers.async_utils import run_jobs
from workers.embedders import Embedder, get_embedder
from workers.embedders.openai import OpenAIEmbedder
from workers.embedders.registry import check_embedder_name, embedder_name
from workers.llms import Completion, Message, check_llm_name, get_llm
from workers.process_loop import run_on_process_loop
from workers.providers import retries
from workers.providers.openai import process_server
from workers.tokens.spending import Source, Spending, collecting
from workers.tokens.usage import TokenUsage

_KEY = "sk-very-secret"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIStub]:
    """A server that the settings name, and pauses between tries that are short."""
    monkeypatch.setattr(retries.with_retries, "__kwdefaults__", {"first_pause": 0.02})
    with openai_stub() as stub:
        monkeypatch.setenv("DOCMILL_OPENAI_BASE_URL", stub.url)
        yield stub


def complete(prompt: str = "Say something.", **options: Any) -> Completion:
    return run_on_process_loop(get_llm("openai/small").complete([Message("user", prompt)], **options))


def embedder(dimension: int | None = None) -> Embedder:
    return OpenAIEmbedder("embedding-test", process_server(), dimension)


def drop_usage(answer: dict[str, Any]) -> object:
    return answer.pop("usage")


def test_an_answer_and_what_it_cost(server: OpenAIStub) -> None:
    """A completion has the model's text, the usage that the server reported, and is on the bill."""
    with collecting() as spending:
        completion = complete("Name a colour.", max_tokens=9)
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["max_tokens"]) == ("small", 9)
    assert request["messages"] == [{"role": "user", "content": "Name a colour."}]
    assert (completion.text, completion.model) == (server.answer("Name a colour."), "small-0001")
    assert (completion.usage.prompt, completion.usage.completion) == (server.prompt, server.completion)
    assert spending.total == completion.usage
    assert not completion.usage.estimated


def test_missing_usage_is_estimated_and_said_so(server: OpenAIStub) -> None:
    """Where the server does not say what a call cost, it is counted here, and marked as an estimate."""
    server.faults.extend([Fault(edit=drop_usage)] * 2)
    completion = complete("one two three")
    assert completion.usage.estimated
    assert completion.usage.prompt == 3 + 3
    assert completion.usage.completion > 0
    with collecting() as spending:
        embedder(8).embed(["one two three", "four"])
    assert spending.total.estimated
    assert spending.total.embedding == 4


@pytest.mark.parametrize(
    ("usage", "reported", "estimated"),
    [
        ({"prompt_tokens": 50}, (50, 0), {"completion"}),
        ({"completion_tokens": 9}, (0, 9), {"prompt"}),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, (0, 0), {"prompt"}),
    ],
)
def test_only_what_is_missing_is_estimated(
    server: OpenAIStub, usage: dict[str, int], reported: tuple[int, int], estimated: set[str]
) -> None:
    """Numbers that the server leaves out are estimated, each for itself, and stand apart from those it reports."""
    server.faults.append(Fault(edit=lambda answer: answer.update(usage=usage)))
    with collecting() as spending:
        completion = complete("one two three")
    assert completion.usage.estimated
    ours = spending.by_source[Source("openai/small", "", True)]
    theirs = spending.by_source.get(Source("openai/small", "", False), TokenUsage())
    assert (theirs.prompt, theirs.completion) == reported
    assert {name for name in ("prompt", "completion") if getattr(ours, name)} == estimated
    assert completion.usage == theirs + ours


def test_an_answer_that_cannot_be_read_was_paid_for(server: OpenAIStub) -> None:
    """What the server reports of answers without a text is on the bill, each time it was asked."""
    server.faults.extend([Fault(edit=lambda answer: answer.pop("choices"))] * 3)
    with collecting() as spending, pytest.raises(TerminalError, match="malformed answer"):
        complete()
    assert spending.total.prompt == server.prompt > 0
    assert spending.total.completion == server.completion


def test_a_spent_budget_sends_nothing(server: OpenAIStub) -> None:
    """A call that the budget has no tokens for is not made, by either kind of model, and is not the server's fault."""
    for ask in (complete, lambda: embedder(8).embed(["one two three", "four"])):
        with collecting(Spending(budget=10, before=7)), pytest.raises(TokenBudgetExceeded, match="7 are spent, and"):
            ask()
    assert server.requests == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503),
        Fault(status=429),
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(cut=True),
        Fault(body=b'{"choices": [{'),
        Fault(body=b"[]"),
        Fault(body=b'{"object": "list", "data": 5, "choices": []}'),
        Fault(body=b"\xff\xfe"),
        Fault(body=b""),
    ],
    ids=lambda fault: f"{fault.status} {fault.body!r} {fault.cut} {dict(fault.headers)}",
)
def test_passing_trouble_is_not_noticed(server: OpenAIStub, fault: Fault) -> None:
    """A busy or broken server, a cut connection and a malformed answer are asked again, by both kinds of model."""
    server.faults.append(fault)
    assert complete().text.startswith("Answer")
    server.faults.append(fault)
    assert embedder(8).embed(["text"]).shape == (1, 8)
    assert (len(server.calls("completions")), len(server.calls("embeddings"))) == (2, 2)


def test_retry_after_is_obeyed(server: OpenAIStub) -> None:
    """The next request comes no sooner than the server wants it."""
    server.faults.append(Fault(status=429, headers={"Retry-After": "1"}))
    began = time.monotonic()
    complete()
    assert 1.0 <= time.monotonic() - began < 4.0
    assert len(server.requests) == 2


def test_a_long_wait_is_left_to_the_batch(server: OpenAIStub) -> None:
    """A wait of more than five seconds is an error that carries it; the worker does not sleep it."""
    server.faults.append(Fault(status=429, message="slow down", headers={"Retry-After": "6"}))
    began = time.monotonic()
    with pytest.raises(TransientError, match=r"429 for 'openai/small': slow down") as caught:
        complete()
    assert caught.value.retry_after == 6.0
    assert time.monotonic() - began < 3.0
    assert len(server.requests) == 1


def test_trouble_that_lasts_is_transient(server: OpenAIStub) -> None:
    """A server that stays broken is tried four times; then the error says that trying again later may help."""
    server.faults.extend([Fault(status=502, message="bad gateway")] * 10)
    with pytest.raises(TransientError, match="502 for 'openai/small': bad gateway"):
        complete()
    assert len(server.requests) == 4


def test_malformed_answers_are_terminal_in_the_end(server: OpenAIStub) -> None:
    """After three malformed answers the error is terminal, and says from where they came."""
    server.faults.extend([Fault(body=b'{"x": ')] * 10)
    with pytest.raises(TerminalError, match=rf"{server.url} sent a malformed answer for 'openai/small'"):
        complete()
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "ends_job"),
    [
        (Fault(status=400, message="context length exceeded"), False),
        (Fault(status=422, message="no such parameter"), False),
        (Fault(status=401, message="who are you"), True),
        (Fault(status=403, message="not for you"), True),
        (Fault(status=404, message="the model does not exist"), True),
        (Fault(status=429, message="quota exceeded", code="insufficient_quota"), True),
    ],
    ids=lambda value: str(getattr(value, "status", value)),
)
@pytest.mark.parametrize("ask", [complete, lambda: embedder(8).embed(["text"])], ids=["chat", "embeddings"])
def test_a_refusal_names_model_address_and_reason(
    server: OpenAIStub, fault: Fault, ends_job: bool, ask: Callable[[], object]
) -> None:
    """A refused request is not sent again; where any other would be refused too, it is an error of configuration."""
    server.faults.append(fault)
    with pytest.raises(TerminalError) as caught:
        ask()
    assert isinstance(caught.value, ConfigurationError) == ends_job
    for word in (server.url, str(fault.status), "'openai/", fault.message):
        assert word in str(caught.value)
    assert len(server.requests) == 1


def test_a_server_that_is_away_is_named(server: OpenAIStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address where nobody listens is a passing trouble that names the address, without the password in it."""
    monkeypatch.setenv("DOCMILL_OPENAI_BASE_URL", "http://user:hidden@127.0.0.1:9/v1")
    with pytest.raises(ServiceUnreachable, match=r"'openai/small' at http://user:\*\*\*@127.0.0.1:9/v1") as caught:
        complete()
    assert "hidden" not in str(caught.value)


def test_a_server_that_says_nothing_is_not_waited_for(server: OpenAIStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request ends after DOCMILL_LLM_TIMEOUT seconds, and is a passing trouble."""
    monkeypatch.setenv("DOCMILL_LLM_TIMEOUT", "0.2")
    server.faults.extend([Fault(hang=True)] * 10)
    with pytest.raises(ServiceUnreachable, match=r"no answer within 0\.2 s"):
        complete()
    assert len(server.requests) == 4


def test_the_key_is_sent_and_shown_to_nobody_else(
    server: OpenAIStub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The key reaches the server and the workers' environment; it is in no repr, log, error or traceback."""
    monkeypatch.setenv("DOCMILL_OPENAI_API_KEY", _KEY)
    server.key = _KEY
    with caplog.at_level(logging.DEBUG):
        complete()
        assert server.requests[0]["authorization"] == f"Bearer {_KEY}"
        server.key = "another"  # and the server repeats what it was sent
        with pytest.raises(ConfigurationError, match=r"Incorrect key: Bearer \*\*\*") as caught:
            complete()
    settings = load_settings()
    failure = Failure.of("a", caught.value, stage="transform")
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(failure), caplog.text):
        assert _KEY not in text
    assert worker_environment(settings)["DOCMILL_OPENAI_API_KEY"] == _KEY
    with pytest.raises(ConfigurationError) as wrong:
        load_settings(chunk_size=1)
    assert _KEY not in str(Failure.of("a", wrong.value, stage="transform"))


def test_openais_own_variables_are_for_its_own_address(server: OpenAIStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_API_KEY is not sent to DOCMILL_OPENAI_BASE_URL; without that, both of OPENAI_… are honoured."""
    monkeypatch.setenv("OPENAI_API_KEY", _KEY)
    complete()
    monkeypatch.delenv("DOCMILL_OPENAI_BASE_URL")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    complete("again")
    assert [request["authorization"] for request in server.requests] == ["Bearer none", f"Bearer {_KEY}"]


def test_openai_without_a_key_is_refused_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """With neither an address nor a key there is nobody to ask: an error says what to set."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DOCMILL_OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for use in (complete, lambda: get_embedder("openai/embedding-without-key")):
        with pytest.raises(ConfigurationError, match="set DOCMILL_OPENAI_API_KEY"):
            use()


def test_connections_are_kept_and_requests_bounded(server: OpenAIStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call after another uses one connection; many at once are no more than DOCMILL_LLM_CONCURRENCY."""
    for _ in range(5):
        complete()
    assert server.connections == 1
    monkeypatch.setenv("DOCMILL_LLM_CONCURRENCY", "3")
    server.pause = 0.02

    async def many() -> None:
        llm = get_llm("openai/small")
        await run_jobs([llm.complete([Message("user", str(number))]) for number in range(24)], workers=24)

    run_on_process_loop(many())
    assert server.at_once == 3


def test_vectors_are_those_of_the_texts(server: OpenAIStub) -> None:
    """Each text gets its own vector, scaled to length 1, in order over several requests; blank texts are not sent."""
    server.pause = 0.02
    texts = [f"text number {number}" for number in range(100)]
    texts[7], texts[99] = "", " \n"
    with collecting() as spending:
        matrix = embedder(16).embed(texts)
    assert matrix.shape == (100, 16)
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    for row, text in zip(matrix, texts, strict=True):
        expected = np.array(vector(text, 16)) if text.strip() else np.zeros(16)
        np.testing.assert_allclose(row, expected / (np.linalg.norm(expected) or 1), atol=1e-6)
    assert 1 < len(server.requests) == server.at_once == 4
    assert spending.total.embedding == server.embedding > 0
    assert embedder(16).embed([]).shape == (0, 16)
    assert len(server.requests) == 4


def test_the_dimension_is_learned_once(server: OpenAIStub) -> None:
    """A model whose dimension nobody gave tells it by its first answer, and what asking costs is on the bill."""
    first = embedder()
    with collecting() as spending:
        assert first.dimension == first.dimension == 32
    assert len(server.requests) == 1
    assert spending.total.embedding == server.embedding
    second = embedder()
    second.embed(["a text"])
    assert second.dimension == 32
    assert len(server.requests) == 2
    assert "dimensions" not in server.requests[0]


def test_a_dimension_is_asked_for(server: OpenAIStub) -> None:
    """`openai/<model>@<dimensions>` asks for so many, needs no request to know it, and goes by that name."""
    model = get_embedder("openai/embedding-test@24")
    assert (model.model, model.dimension, server.requests) == ("openai/embedding-test@24", 24, [])
    assert model.embed(["a text"]).shape == (1, 24)
    assert server.requests[0]["dimensions"] == 24
    assert embedder_name(model.model) == model.model
    assert embedder_name(embedder().model) == "openai/embedding-test"


def test_vectors_of_another_dimension_are_refused(server: OpenAIStub) -> None:
    """Vectors that are not as long as they were, or as was asked, end the job with an error that names both."""

    def shorten(answer: dict[str, Any]) -> None:
        answer["data"][0]["embedding"] = [1.0, 2.0, 3.0]

    server.faults.append(Fault(edit=shorten))
    with pytest.raises(ConfigurationError, match=r"3 dimensions for 'openai/embedding-test@24'; expected are 24"):
        embedder(24).embed(["a text"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda answer: answer["data"].pop(),
        lambda answer: answer["data"].append(answer["data"][0]),
        lambda answer: answer["data"][0].update(embedding=[float("nan")] * 8),
        lambda answer: answer["data"][0].update(embedding="no base64"),
        lambda answer: answer["data"][0].update(embedding=[]),
        lambda answer: answer["data"][0].update(index=5),
        lambda answer: answer.update(data=None),
    ],
    ids=["too few", "too many", "nan", "no base64", "empty", "index", "none"],
)
def test_vectors_that_do_not_fit_the_texts_are_refused(
    server: OpenAIStub, spoil: Callable[[dict[str, Any]], object]
) -> None:
    """Too few or too many vectors, or what is no vector, are never taken for the texts'; all of it was paid for."""
    server.faults.extend([Fault(edit=spoil)] * 3)
    with collecting() as spending, pytest.raises(TerminalError, match="malformed answer"):
        embedder(8).embed(["one", "two"])
    assert len(server.requests) == 3
    assert spending.total.embedding == server.embedding


def test_lists_of_floats_are_taken_too(server: OpenAIStub) -> None:
    """Servers that do not know base64 send lists; and an order of their own is put right by the index."""

    def as_lists(answer: dict[str, Any]) -> None:
        for item, text in zip(answer["data"], ["one", "two"], strict=True):
            item["embedding"] = vector(text, 8)
        answer["data"].reverse()

    expected = embedder(8).embed(["one", "two"])
    server.faults.append(Fault(edit=as_lists))
    np.testing.assert_allclose(embedder(8).embed(["one", "two"]), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["openai", "openai/", "openai/@8"])
def test_a_name_without_a_model_is_refused(name: str) -> None:
    """A name without a model is refused without asking anybody, and the error lists the names there are."""
    with pytest.raises(UnknownName, match=r"openai/<model>"):
        check_embedder_name(name)


@pytest.mark.parametrize("name", ["openai/m@0", "openai/m@x", "openai/m@", "openai/m@16001"])
def test_a_dimension_out_of_range_is_refused(name: str) -> None:
    """Dimensions are a whole number from 1 to what a vector store can hold."""
    with pytest.raises(ConfigurationError, match="a whole number from 1 to 16000"):
        check_embedder_name(name)


@pytest.mark.parametrize("name", ["", "gpt", "openai", "openai/", "anthropic/x"])
def test_a_language_model_that_nobody_made_is_refused(name: str) -> None:
    """An unknown language model is refused with those there are."""
    with pytest.raises(UnknownName, match=r"unknown language model .* known here: openai/<model>"):
        check_llm_name(name)
