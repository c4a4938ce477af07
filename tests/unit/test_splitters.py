"""The splitters: chunks within their size, at exact offsets, with nothing left out."""

import argparse
import inspect
import re
import textwrap
import traceback
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from semantic_text_splitter import TextSplitter

from orchestrator.contracts.errors import ConfigurationError, DocumentError
from orchestrator.contracts.nodes import Node
from workers.tokens import ENCODINGS, get_tokenizer
from workers.transformations import MarkdownSplitter, SentenceSplitter
from workers.transformations.chunking import TokenSplitter
from workers.transformations.contract import build_transformation

DOCS = Path(__file__).parents[2] / "docs"
SPLITTERS: list[type[TokenSplitter]] = [SentenceSplitter, MarkdownSplitter]
PIECES = [
    *("A short sentence. ", "Another one, with a clause! ", "word ", "Überlänge ", "supercalifragilistic"),
    *("日本語の文章です。", "这是一个句子。", "ไทย", "👩‍👩‍👧‍👦", "🤦🏽‍♂️"),
    *("𠜎", "e\u0301", "\u200d", "\ufeff", "\x1c", "\u00a0", "\u2028"),
    *("\n", "\n\n", "\r\n", "\n\n\n\n", "   ", "\t", "\n    indented code\n", "\n" + " \n" * 130),
    *("# Heading\n", "\n## Second\n\n", "- item\n", "  1. one\n", "> quote\n", "```\ncode\n```\n", "---\n"),
    *("|a|b|\n|-|-|\n", "**bold** ", "[link](http://x.y) ", "![", "`code`", "<div>", "</div>\n", "[^1]: note\n"),
    *("***", "```\n", "<|endoftext|>", "{\n", "\n\n/path", "\n/*", "\n\r", "...\n\n", "ab cd\n"),
]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=60).map("".join)
sizes = st.integers(4, 64).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))
valid_texts = texts.filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text))


def document(text: str) -> Node:
    return Node(text=text, metadata={"source": "a.txt"}, start=0, end=len(text))


def check(splitter: TokenSplitter, text: str) -> list[Node]:
    """Split a text and hold the chunks against everything that is promised of them."""
    chunks = splitter([document(text)])
    covered = [False] * len(text)
    for chunk in chunks:
        assert chunk.start is not None and chunk.end is not None
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.text.strip()
        assert chunk.token_count == get_tokenizer(splitter.tokenizer).count(chunk.text) <= splitter.chunk_size
        covered[chunk.start : chunk.end] = [True] * len(chunk.text)
    left_out = {character for character, seen in zip(text, covered, strict=True) if not seen}
    assert not "".join(left_out).strip()
    assert all(first.start <= second.start for first, second in pairwise(chunks))  # type: ignore[operator]
    return chunks


@pytest.mark.parametrize("splitter", SPLITTERS)
@given(text=valid_texts, size=sizes)
@settings(deadline=None, max_examples=400)
def test_chunks_keep_every_promise(splitter: type[TokenSplitter], text: str, size: tuple[int, int]) -> None:
    """No chunk is blank or larger than chunk_size, each stands at its offsets, and all but white space is in one."""
    check(splitter(chunk_size=size[0], chunk_overlap=size[1]), text)


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@given(text=st.lists(st.sampled_from(PIECES), max_size=100).map("".join))
@settings(deadline=None, max_examples=300)
def test_token_counts_are_exact_in_every_encoding(encoding: str, text: str) -> None:
    """A chunk that is made of many lines has as many tokens as it says, whatever the encoding lets a token take in."""
    check(SentenceSplitter(chunk_size=64, chunk_overlap=8, tokenizer=encoding), text)


@pytest.mark.parametrize("splitter", SPLITTERS)
@pytest.mark.parametrize("unit", ["Ein Satz über Öl. ", "日本語の文章です。\n", "word ", "para\n\n", "x", "👩‍👩‍👧‍👦"])
def test_large_texts_keep_every_promise(splitter: type[TokenSplitter], unit: str) -> None:
    """Texts that are cut into blocks first keep every promise across the borders of the blocks."""
    check(splitter(), unit * (300_000 // len(unit)))


@pytest.mark.parametrize("splitter", SPLITTERS)
@pytest.mark.parametrize("run", ["\n", "\n \n", "\r\n", " "])
def test_long_blank_runs_are_split_at_once(splitter: type[TokenSplitter], run: str) -> None:
    """A hundred thousand blank lines, on which a library spends minutes, are dropped, and part what is around them."""
    chunks = check(splitter(), f"before{run * 100_000}\nafter{run * 100_000}")
    assert " ".join(chunk.text for chunk in chunks).split() == ["before", "after"]
    assert len(chunks) == 2 or not run.strip(" ")


@pytest.mark.parametrize("unit", [".", "。", ". ", " .", "a", "\u0301", "👩\u200d", "\r"])
def test_the_time_grows_with_the_text_alone(unit: str) -> None:
    """200,000 characters without a line to cut at take well under the minutes that their square would."""
    check(SentenceSplitter(chunk_size=512, chunk_overlap=64), unit * (200_000 // len(unit)))


@pytest.mark.parametrize("overlap", [0, 2, 3])
def test_a_panic_of_the_library_costs_nothing(overlap: int) -> None:
    """Markdown on which the library panics is split all the same, and keeps every promise."""
    check(MarkdownSplitter(chunk_size=4, chunk_overlap=overlap), "---\n`\n  \n \u00a0-\n---")


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_offsets_count_characters(splitter: type[TokenSplitter]) -> None:
    """Offsets are in characters of the document, not bytes, and count from the start of the parent."""
    parent = Node(text="Größe 👩‍👩‍👧‍👦. Maß voll.", start=100, end=119)
    chunks = splitter(chunk_size=15, chunk_overlap=0)([parent])
    assert len(chunks) > 1
    for chunk in chunks:
        assert chunk.start is not None and chunk.end is not None
        assert parent.text[chunk.start - 100 : chunk.end - 100] == chunk.text


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_a_character_of_more_tokens_than_fit_stands_alone(splitter: type[TokenSplitter]) -> None:
    """Below four tokens a chunk, a character that has more is a chunk of its own; nothing is lost."""
    chunks = splitter(chunk_size=1, chunk_overlap=0)([document("𠜎 a")])
    assert [(chunk.text, chunk.start, chunk.token_count) for chunk in chunks] == [("𠜎", 0, 4), ("a", 2, 1)]


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_chunks_have_metadata_of_their_own(splitter: type[TokenSplitter]) -> None:
    """Each chunk carries a copy of its parent's metadata."""
    parent = document("One sentence here. Another sentence there. ")
    first, second, *_ = splitter(chunk_size=5, chunk_overlap=0)([parent])
    first.metadata["changed"] = True
    assert second.metadata == parent.metadata == {"source": "a.txt"}


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_nodes_without_a_span_give_chunks_without_one(splitter: type[TokenSplitter]) -> None:
    """Chunks of a text that does not stand in the document have no offsets."""
    (chunk,) = splitter()([Node(text="made up")])
    assert (chunk.text, chunk.start, chunk.end) == ("made up", None, None)


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_several_nodes_are_split_in_order(splitter: type[TokenSplitter]) -> None:
    """Each node is split by itself, in order; white space alone gives no chunk."""
    chunks = splitter()([document("one"), document(" \n "), document(""), document("two")])
    assert [chunk.text for chunk in chunks] == ["one", "two"]


def test_neighbours_overlap_within_bounds() -> None:
    """Neighbouring chunks share text, and never more tokens of it than chunk_overlap."""
    text = " ".join(f"Sentence number {number} stands here." for number in range(200))
    chunks = check(SentenceSplitter(chunk_size=64, chunk_overlap=20), text)
    shared = [text[second.start : first.end] for first, second in pairwise(chunks)]
    assert all(shared)
    assert max(get_tokenizer().count_many(shared)) <= 20


@given(text=valid_texts, size=sizes)
@settings(deadline=None, max_examples=200)
def test_what_fits_is_not_cut_and_overlap_is_bounded(text: str, size: tuple[int, int]) -> None:
    """A paragraph that fits into a chunk is whole in one, and no chunk repeats more of the one before than allowed."""
    splitter = SentenceSplitter(chunk_size=size[0], chunk_overlap=size[1])
    chunks = list(splitter.chunks(text))
    count = get_tokenizer().count
    for paragraph in re.split(r"\n\s*\n", text):
        if count(paragraph) <= splitter.chunk_size and count(paragraph.strip()) <= splitter.chunk_size:
            assert any(paragraph.strip() in chunk.text for chunk in chunks) or not paragraph.strip()
    for first, second in pairwise(chunks):
        assert count(text[second.start : first.start + len(first.text)].strip()) <= splitter.chunk_overlap


def test_borders_are_those_of_a_library() -> None:
    """On Markdown, reStructuredText and code as plain text, most chunks are those of semantic-text-splitter."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))]
    texts += [inspect.getsource(module) for module in (argparse, inspect, textwrap, traceback)]
    for size, overlap in ((512, 64), (128, 16)):
        library = TextSplitter.from_callback(get_tokenizer().counter, size, overlap=overlap)
        ours = [
            {chunk.text for chunk in SentenceSplitter(chunk_size=size, chunk_overlap=overlap).chunks(text)}
            for text in texts
        ]
        theirs = [set(library.chunks(text)) for text in texts]
        same = sum(len(mine & other) for mine, other in zip(ours, theirs, strict=True))
        number = sum(len(other) for other in theirs)
        assert same >= 0.7 * number
        assert abs(sum(len(mine) for mine in ours) - number) <= 0.03 * number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "One is here. Two, e.g. this, is there! (Three?) Four.",
            ["One is here.", "Two, e.g. this, is there!", "(Three?) Four."],
        ),
        ("これは文です。「次の文です。」終わり", ["これは文です。", "「次の文です。」", "終わり"]),
        ("first line\nsecond one\n\nthird line", ["first line\nsecond one", "third line"]),
        ("a long line of words that does not fit", ["a long line of words that", "does not fit"]),
        ("e\u0301" * 12, ["e\u0301" * 3] * 4),
    ],
)
def test_cuts_at_the_best_border(text: str, expected: list[str]) -> None:
    """Paragraphs before sentences before words; no sentence ends before a small letter; marks stay with letters."""
    size = max(get_tokenizer().count_many(expected))
    assert [chunk.text for chunk in SentenceSplitter(chunk_size=size, chunk_overlap=0).chunks(text)] == expected


def test_markdown_is_cut_at_headings() -> None:
    """The Markdown splitter keeps a section whole where the sentence splitter fills the chunk across the heading."""
    text = "# First\nOne line of text here.\n# Second\nTwo lines of text\nstand here.\n"
    starts = [chunk.text for chunk in check(MarkdownSplitter(chunk_size=16, chunk_overlap=0), text)]
    assert [start.partition("\n")[0] for start in starts] == ["# First", "# Second"]
    assert "# Second" in SentenceSplitter(chunk_size=16, chunk_overlap=0)([document(text)])[0].text


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_lone_surrogates_are_refused(splitter: type[TokenSplitter]) -> None:
    """A text with a lone surrogate costs this one document, and the error says what to do."""
    with pytest.raises(DocumentError, match=r"lone surrogate '\\ud800'.*`parse`") as caught:
        splitter()([document("a\ud800b")])
    assert caught.value.stage == splitter.name


@pytest.mark.parametrize("splitter", SPLITTERS)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"chunk_size": 64}, "chunk_overlap 200 must be smaller than chunk_size 64"),
        ({"chunk_size": 64, "chunk_overlap": 64}, "chunk_overlap 64 must be smaller than chunk_size 64"),
        ({"chunk_size": 0, "chunk_overlap": 0}, "greater than or equal to 1"),
        ({"chunk_overlap": -1}, "greater than or equal to 0"),
        ({"tokenizer": "gpt2"}, "unknown encoding 'gpt2'; known here: cl100k_base"),
        ({"chunksize": 64}, "chunksize"),
    ],
)
def test_wrong_parameters_are_refused_when_given(
    splitter: type[TokenSplitter], fields: dict[str, object], message: str
) -> None:
    """Wrong parameters are refused at once, by name and value, by the constructor and from a spec alike."""
    with pytest.raises(ValidationError, match=message):
        splitter(**fields)
    spec = splitter().spec()
    with pytest.raises(ConfigurationError, match=message):
        build_transformation(spec.model_copy(update={"parameters": fields}))


def test_defaults_are_those_of_the_reference() -> None:
    """Without parameters: 1024 tokens of cl100k_base, of which 200 may overlap."""
    assert SentenceSplitter().spec().parameters == MarkdownSplitter().spec().parameters
    assert SentenceSplitter().spec().parameters == {
        "chunk_size": 1024,
        "chunk_overlap": 200,
        "tokenizer": "cl100k_base",
    }
