"""Extractors over real HTTP: what they add to the nodes, what that costs, and what is never paid for twice."""

from collections.abc import Iterator

import pytest

from orchestrator.contracts.errors import ConfigurationError, TransientError
from orchestrator.contracts.hashing import digest
from orchestrator.contracts.nodes import Node
from orchestrator.contracts.payload import BatchDocument
from orchestrator.contracts.spec import PipelineSpec
from tests.openai_server import Fault, OpenAIStub, openai_stub
from workers.caches.ingestion_cache import IngestionCache
from workers.caches.memory import MemoryCache
from workers.chain import BatchBill, BatchResult, Chain
from workers.tokens.spending import collecting
from workers.tokens.usage import TokenUsage
from workers.transformations import (
    Embed,
    KeywordsExtractor,
    Parse,
    QuestionsAnsweredExtractor,
    SentenceSplitter,
    SummaryExtractor,
    TitleExtractor,
)
from workers.transformations.contract import Transformation

_LLM = "openai/small"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIStub]:
    """A server that the settings name."""
    with openai_stub() as stub:
        monkeypatch.setenv("DOCMILL_OPENAI_BASE_URL", stub.url)
        yield stub


def nodes(count: int) -> list[Node]:
    return [Node(text=f"section {number}", metadata={"source": "a.md"}) for number in range(count)]


def section(prompt: str) -> str:
    """The section that a prompt is about: what the model of these tests answers."""
    (line,) = [line for line in prompt.splitlines() if line.startswith("section")]
    return line


def prompts(server: OpenAIStub) -> list[str]:
    return [request["messages"][-1]["content"] for request in server.calls("completions")]


def test_a_title_comes_from_the_first_nodes(server: OpenAIStub) -> None:
    """The first nodes each propose a title, one more call chooses, and all nodes carry the title without its quotes."""
    server.answer = lambda prompt: '"**The Whole**"' if "titles" in prompt else f"Title of {section(prompt)}"
    found = TitleExtractor(llm=_LLM, nodes=3)(nodes(7))
    assert [node.metadata for node in found] == [{"source": "a.md", "document_title": "The Whole"}] * 7
    assert [node.text for node in found] == [f"section {number}" for number in range(7)]
    assert len(prompts(server)) == 4
    assert "Title of section 0\nTitle of section 1\nTitle of section 2" in prompts(server)[-1]


@pytest.mark.parametrize("count", [1, 4])
def test_one_proposal_needs_no_choice(server: OpenAIStub, count: int) -> None:
    """Where all nodes propose the same title, or there is one node, no further call is made."""
    server.answer = lambda prompt: "Only One"
    found = TitleExtractor(llm=_LLM)(nodes(count))
    assert {node.metadata["document_title"] for node in found} == {"Only One"}
    assert len(prompts(server)) == count


def test_summaries_of_a_node_and_its_neighbours(server: OpenAIStub) -> None:
    """Every node is summarized once; neighbours' summaries cost nothing more, and are missing at the ends."""
    server.answer = lambda prompt: f"sum of {section(prompt)}"
    first, second, third = SummaryExtractor(llm=_LLM, summaries=("self", "prev", "next"))(nodes(3))
    assert len(prompts(server)) == 3
    assert first.metadata["section_summary"] == "sum of section 0"
    assert "prev_section_summary" not in first.metadata
    assert first.metadata["next_section_summary"] == second.metadata["section_summary"]
    assert third.metadata["prev_section_summary"] == second.metadata["section_summary"]
    assert "next_section_summary" not in third.metadata


def test_only_the_summaries_that_are_needed_are_made(server: OpenAIStub) -> None:
    """Where only the previous node's summary is asked for, the last node is not summarized."""
    server.answer = lambda prompt: section(prompt)
    found = SummaryExtractor(llm=_LLM, summaries=("prev",))(nodes(3))
    assert [node.metadata.get("prev_section_summary") for node in found] == [None, "section 0", "section 1"]
    assert sorted(map(section, prompts(server))) == ["section 0", "section 1"]


def test_keywords_and_questions(server: OpenAIStub) -> None:
    """Keywords and questions are asked for by number, and stored as the model wrote them, without what cannot be."""
    server.answer = lambda prompt: "'mill,\x00 water'" if "keywords" in prompt else "Why?\nHow?"
    (node,) = QuestionsAnsweredExtractor(llm=_LLM, questions=2)(KeywordsExtractor(llm=_LLM, keywords=3)(nodes(1)))
    assert node.metadata["excerpt_keywords"] == "mill,\ufffd water"
    assert node.metadata["questions_this_excerpt_can_answer"] == "Why?\nHow?"
    assert "Give 3 different keywords" in prompts(server)[0]
    assert "Write 2 questions" in prompts(server)[1]


def test_texts_with_braces_are_texts(server: OpenAIStub) -> None:
    """Braces in a node's text reach the model as they are."""
    KeywordsExtractor(llm=_LLM)([Node(text="{keywords} {0} {x!r}")])
    assert "{keywords} {0} {x!r}" in prompts(server)[0]


def test_an_answer_without_text_adds_nothing(server: OpenAIStub) -> None:
    """A model that refuses, or has nothing to say, adds no key."""
    server.answer = lambda prompt: " \n"
    for extractor in (TitleExtractor(llm=_LLM), KeywordsExtractor(llm=_LLM), SummaryExtractor(llm=_LLM)):
        assert [node.metadata for node in extractor(nodes(2))] == [{"source": "a.md"}] * 2


def test_no_nodes_cost_nothing(server: OpenAIStub) -> None:
    """A document without nodes is not asked about."""
    for extractor in (TitleExtractor(llm=_LLM), SummaryExtractor(llm=_LLM, summaries=("next",))):
        assert extractor([]) == []
    assert server.requests == []


def test_calls_at_once_are_bounded(server: OpenAIStub) -> None:
    """No more than `concurrency` nodes of a document are asked about at once, and as many are."""
    server.pause = 0.02
    KeywordsExtractor(llm=_LLM, concurrency=3)(nodes(15))
    assert server.at_once == 3


def test_a_failure_begins_no_more_calls_and_bills_those_on_their_way(server: OpenAIStub) -> None:
    """When a call fails nothing more is begun, those on their way are let finish, and the bill is the server's."""
    server.pause = 0.05
    server.faults.append(Fault(status=404, message="no such model"))
    with collecting() as spending, pytest.raises(ConfigurationError, match="no such model"):
        KeywordsExtractor(llm=_LLM, concurrency=4)(nodes(40))
    assert len(server.requests) < 12
    assert (spending.total.prompt, spending.total.completion) == (server.prompt, server.completion)
    assert server.prompt > 0


def document(text: str, id: str = "one") -> BatchDocument:
    content = text.encode()
    return BatchDocument(id, 0, True, True, content, {}, digest(content), digest(content), None)


def run(cache: IngestionCache, text: str, *steps: Transformation) -> tuple[BatchResult, BatchBill]:
    splitter = SentenceSplitter(chunk_size=16, chunk_overlap=0)
    step_specs = tuple(step.spec() for step in (Parse(), splitter, *steps, Embed("openai/embedding-test@16")))
    spec = PipelineSpec(name="test", collection="test", transformations=step_specs)
    bill = BatchBill()
    return Chain(spec, cache).run([document(text)], bill), bill


PARAGRAPHS = [f"section {number} tells of subject{number} and of nothing else at all here." for number in range(6)]


def test_a_chain_pays_once_and_its_bill_is_the_servers(server: OpenAIStub) -> None:
    """The batch is billed what the server reported, for completions and for embeddings; again it costs nothing."""
    cache, text = IngestionCache(cache=MemoryCache()), "\n\n".join(PARAGRAPHS)
    steps = TitleExtractor(llm=_LLM), KeywordsExtractor(llm=_LLM)
    result, bill = run(cache, text, *steps)
    paid = bill.spending.total
    assert (paid.prompt, paid.completion) == (server.prompt, server.completion)
    assert paid.embedding == server.embedding > 0
    assert {(source.model, source.transformation, source.estimated) for source in bill.spending.by_source} == {
        (_LLM, "title_extractor", False),
        (_LLM, "keywords_extractor", False),
        ("openai/embedding-test@16", "embed", False),
    }
    asked = len(server.requests)
    again, nothing = run(cache, text, *steps)
    assert nothing.spending.total == TokenUsage()
    assert len(server.requests) == asked
    assert [node.metadata for node in again.documents[0].nodes] == [n.metadata for n in result.documents[0].nodes]


def test_two_servers_share_no_entries(server: OpenAIStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one server answered to a model's name is not taken for the answer of another server, by no kind of entry."""
    cache, text = IngestionCache(cache=MemoryCache()), "\n\n".join(PARAGRAPHS)
    run(cache, text, KeywordsExtractor(llm=_LLM))
    with openai_stub() as other:
        monkeypatch.setenv("DOCMILL_OPENAI_BASE_URL", other.url)
        run(cache, text, KeywordsExtractor(llm=_LLM))
        assert (other.embedding, other.completion) == (server.embedding, server.completion)
    asked = len(server.requests)
    monkeypatch.setenv("DOCMILL_OPENAI_BASE_URL", server.url)
    run(cache, text, KeywordsExtractor(llm=_LLM))
    assert len(server.requests) == asked


def test_an_edited_section_is_the_only_one_asked_about(server: OpenAIStub) -> None:
    """Of a document with one edited paragraph only that paragraph's node is asked about, and embedded, again."""
    cache = IngestionCache(cache=MemoryCache())
    result, _ = run(cache, "\n\n".join(PARAGRAPHS), KeywordsExtractor(llm=_LLM))
    assert len(server.calls("completions")) == result.node_count == len(PARAGRAPHS)
    edited = [*PARAGRAPHS[:3], "section 3 was edited, and is about something else now.", *PARAGRAPHS[4:]]
    run(cache, "\n\n".join(edited), KeywordsExtractor(llm=_LLM))
    assert len(server.calls("completions")) == len(PARAGRAPHS) + 1
    assert server.calls("embeddings")[-1]["input"] == [edited[3]]


def test_what_was_paid_before_a_failure_is_not_paid_again(server: OpenAIStub) -> None:
    """A batch that has to wait for the server is billed for what it got, and asks only for the rest when it is back."""
    cache, text = IngestionCache(cache=MemoryCache()), "\n\n".join(PARAGRAPHS)
    server.faults.extend([Fault(), Fault(), Fault(status=429, headers={"Retry-After": "60"})])
    extractor = KeywordsExtractor(llm=_LLM, concurrency=1)
    with pytest.raises(TransientError) as caught, collecting() as spending:
        run(cache, text, extractor)
    assert caught.value.retry_after == 60.0
    assert (spending.total.prompt, spending.total.completion) == (server.prompt, server.completion)
    assert len(server.calls("completions")) == 3
    run(cache, text, extractor)
    assert len(server.calls("completions")) == len(PARAGRAPHS) + 1


def test_a_refusal_of_the_model_ends_the_chain(server: OpenAIStub) -> None:
    """A wrong key or model is raised as it is, rather than as the fault of one document after another."""
    server.key = "another"
    with pytest.raises(ConfigurationError, match="401"):
        run(IngestionCache(cache=MemoryCache()), "some text", KeywordsExtractor(llm=_LLM))


def test_a_refusal_of_the_prompt_costs_its_document(server: OpenAIStub) -> None:
    """A prompt that the server will not take is that document's failure, with the server's words."""
    server.faults.append(Fault(status=400, message="context length exceeded"))
    result, _ = run(IngestionCache(cache=MemoryCache()), "some text", KeywordsExtractor(llm=_LLM))
    failure = result.documents[0].failure
    assert failure is not None
    assert (failure.stage, failure.transformation) == ("transform", "keywords_extractor")
    assert "context length exceeded" in failure.message


def test_a_splitters_nodes_are_cached_as_the_splitter_made_them(server: OpenAIStub) -> None:
    """What an extractor adds does not get into the cache under the steps before it."""
    cache, text = IngestionCache(cache=MemoryCache()), "\n\n".join(PARAGRAPHS)
    run(cache, text, KeywordsExtractor(llm=_LLM))
    plain, bill = run(cache, text)
    assert bill.cache_misses == 0
    assert [node.metadata for node in plain.documents[0].nodes] == [{}] * len(PARAGRAPHS)
