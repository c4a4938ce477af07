"""What every embedder promises, held against each of them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from orchestrator.contracts.errors import ConfigurationError, UnknownName
from tests.minilm import MINILM, link_minilm
from workers.embedders import Embedder, get_embedder

TEXTS = [
    "The cat sleeps on the warm roof.",
    "Postgres writes its log before it writes its pages.",
    "word",
    "Grüße aus Köln, 漢字かな交じり文, मैं ठीक हूँ, 🜁🦉 \u200b\u202e",
    "long " * 3000,
    "a\tb\n\n\x01 c",
    "The cat sleeps on the warm roof.",
]


@pytest.fixture(scope="module", params=["hashed", "hashed/64", "wordllama", f"onnx/{MINILM}"])
def embedder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    """Each embedder, by its name."""
    models_path = tmp_path_factory.mktemp("models")
    if request.param.startswith("onnx"):
        link_minilm(models_path)
    return get_embedder(request.param, models_path)


@pytest.fixture
def models_path(tmp_path: Path) -> Path:
    """A folder of models with MiniLM in it."""
    link_minilm(tmp_path)
    return tmp_path


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(first @ second)


def test_matrix(embedder: Embedder) -> None:
    """The vectors are one C-contiguous float32 matrix, a row a text, of length 1."""
    matrix = embedder.embed(TEXTS)
    assert matrix.shape == (len(TEXTS), embedder.dimension)
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1.0, atol=1e-5)


def test_no_texts(embedder: Embedder) -> None:
    """No texts give a matrix without rows, of the right dimension."""
    matrix = embedder.embed([])
    assert matrix.shape == (0, embedder.dimension)
    assert matrix.dtype == np.float32


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
def test_text_without_words(embedder: Embedder, text: str) -> None:
    """A text without words has a finite vector, of length 1 or 0, and does not touch its neighbours."""
    matrix = embedder.embed([TEXTS[0], text, TEXTS[1]])
    assert np.isfinite(matrix).all()
    assert float(np.linalg.norm(matrix[1])) == pytest.approx(1.0, abs=1e-5) or not matrix[1].any()
    np.testing.assert_allclose(matrix[[0, 2]], embedder.embed(TEXTS[:2]), atol=1e-5)


def test_batches(embedder: Embedder) -> None:
    """A text has the same vector alone, in a batch, and in a batch of another order; rows keep the order."""
    together = embedder.embed(TEXTS)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    backwards = embedder.embed(TEXTS[::-1])[::-1]
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(backwards, together, atol=1e-5)
    np.testing.assert_array_equal(together[0], together[-1])


def test_likeness(embedder: Embedder) -> None:
    """A text is nearer to one it shares words with than to one about something else."""
    base, like, unlike = embedder.embed(
        ["The cat sleeps on the roof.", "A cat on the roof sleeps.", "Interest rates rose sharply in March."]
    )
    assert cosine(base, like) > cosine(base, unlike) + 0.2


def test_model_names_the_vectors(embedder: Embedder) -> None:
    """The model's name says which vectors these are: the kind of embedder, and the model or dimension."""
    names = r"hashed/(256|64)|wordllama/l2_supercat_256|onnx/all-MiniLM-L6-v2@[0-9a-f]{12}"
    assert re.fullmatch(names, embedder.model)


@pytest.mark.parametrize("name", ["wordllama", f"onnx/{MINILM}"])
def test_meaning(name: str, models_path: Path) -> None:
    """Sentences that mean alike are nearer than others, though they share no word."""
    base, like, unlike = get_embedder(name, models_path).embed(
        ["The physician treated her patient.", "A doctor cured sick people.", "Our train leaves at nine."]
    )
    assert cosine(base, like) > cosine(base, unlike) + 0.1


def test_one_instance_a_process(models_path: Path) -> None:
    """The same name gives the same embedder, loaded once."""
    for name in ("hashed", "wordllama", f"onnx/{MINILM}"):
        assert get_embedder(name, models_path) is get_embedder(name, models_path)


def test_hashed_dimension() -> None:
    """`hashed` has 256 dimensions, and `hashed/N` has N."""
    assert (get_embedder("hashed").dimension, get_embedder("hashed").model) == (256, "hashed/256")
    assert (get_embedder("hashed/3").dimension, get_embedder("hashed/3").model) == (3, "hashed/3")


@pytest.mark.parametrize("name", ["hashed/0", "hashed/-1", "hashed/x", "hashed/", "hashed/16001", "hashed/²"])
def test_hashed_dimension_refused(name: str) -> None:
    """A dimension that is no whole number, or too large, is refused with what is allowed."""
    with pytest.raises(ConfigurationError, match="a whole number from 1 to 16000"):
        get_embedder(name)


@pytest.mark.parametrize("name", ["openai", "", "onnx", "wordllama/x", "Hashed"])
def test_unknown_name(name: str) -> None:
    """A name that nobody knows is refused with those that are known."""
    with pytest.raises(UnknownName, match=r"known here: .*hashed, .*, wordllama"):
        get_embedder(name)


@pytest.mark.parametrize("folder", ["", ".", "..", "../x", "a/b", "/etc", "a\\b"])
def test_model_name_is_a_folder_name(folder: str, tmp_path: Path) -> None:
    """A model's name never leads out of the folder of models."""
    with pytest.raises(ConfigurationError, match="named by its folder alone"):
        get_embedder(f"onnx/{folder}", tmp_path)


def test_models_path_is_not_set() -> None:
    """Without a folder of models, the message says what to set."""
    with pytest.raises(ConfigurationError, match="set DOCMILL_MODELS_PATH"):
        get_embedder("onnx/model")


def test_models_path_from_settings(models_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of models comes from the settings where none is given."""
    monkeypatch.setenv("DOCMILL_MODELS_PATH", str(models_path))
    assert get_embedder(f"onnx/{MINILM}").dimension == 384


def test_incomplete_model(tmp_path: Path) -> None:
    """A model whose files are missing is refused by their names, and may be completed and asked for again."""
    with pytest.raises(ConfigurationError, match=r"missing: model\.onnx, tokenizer\.json"):
        get_embedder(f"onnx/{MINILM}", tmp_path)
    link_minilm(tmp_path)
    assert get_embedder(f"onnx/{MINILM}", tmp_path).dimension == 384


def test_damaged_model(tmp_path: Path) -> None:
    """Files that are no model and no tokenizer are refused by their names."""
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"\0" * 100)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json is not a tokenizer"):
        get_embedder("onnx/broken", tmp_path).embed(["text"])
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to((_minilm(tmp_path) / "tokenizer.json").resolve())
    with pytest.raises(ConfigurationError, match=r"model\.onnx is not an ONNX model"):
        get_embedder("onnx/broken", tmp_path).embed(["text"])


def _minilm(models_path: Path) -> Path:
    link_minilm(models_path)
    return models_path / MINILM


def test_changed_files_change_the_model(models_path: Path) -> None:
    """The model's name carries a hash of its files: the same files the same name, another file another."""
    same, other = models_path / "same", models_path / "other"
    for folder in (same, other):
        folder.mkdir()
        (folder / "model.onnx").symlink_to((models_path / MINILM / "model.onnx").resolve())
        (folder / "tokenizer.json").write_bytes((models_path / MINILM / "tokenizer.json").read_bytes())
    (other / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    names = [get_embedder(f"onnx/{name}", models_path).model for name in (MINILM, "same", "other")]
    first, second, third = (name.partition("@")[2] for name in names)
    assert first == second != third
    assert len(first) == 12


def test_length_file(models_path: Path) -> None:
    """The length file decides how many tokens of a text are read."""
    folder = _minilm(models_path)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    short, long = get_embedder(f"onnx/{MINILM}", models_path).embed(
        ["one two three four five six", "one two three four five six seven"]
    )
    np.testing.assert_allclose(short, long, atol=1e-6)


@pytest.mark.parametrize("content", ["[]", "{}", "nonsense", '{"max_seq_length": null}'])
def test_length_file_refused(models_path: Path, content: str) -> None:
    """A length file without a length is refused by its name."""
    (_minilm(models_path) / "sentence_bert_config.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"sentence_bert_config\.json holds no whole number"):
        get_embedder(f"onnx/{MINILM}", models_path).embed(["text"])


def test_wordllama_without_a_network(tmp_path: Path) -> None:
    """WordLlama loads with no network and no cache, opens no socket, and leaves the host's logging as it was."""
    program = """
import logging, socket
def refuse(*arguments, **named):
    raise AssertionError("a socket was opened")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from workers.embedders import get_embedder
assert get_embedder("wordllama").embed(["text"]).shape == (1, 256)
assert logging.getLogger().handlers == [] and logging.getLogger().level == logging.WARNING
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"HOME": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_importing_is_cheap() -> None:
    """Importing the embedders, and asking for one, loads no model and no library of a model."""
    program = """
import sys
from workers.embedders import get_embedder
get_embedder("wordllama"), get_embedder("hashed")
heavy = {"numpy", "wordllama", "onnxruntime", "tokenizers"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)
