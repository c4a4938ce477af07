"""Transformer encoders in ONNX, from a local folder, on the CPU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.contracts.errors import ConfigurationError
from workers.embedders.vectors import scale_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OnnxEmbedder"]

_WEIGHTS, _TOKENIZER, _LENGTH = "model.onnx", "tokenizer.json", "sentence_bert_config.json"
_MAX_TOKENS = 256  # where neither the tokenizer nor the length file says how much the model reads


class OnnxEmbedder:
    """Mean pooling over the last hidden state, then scaled to length 1, as sentence-transformers does.

    The folder holds `model.onnx` and `tokenizer.json`, and may hold `sentence_bert_config.json`, whose
    `max_seq_length` overrules the tokenizer's. What stands behind that many tokens of a text is not read.

    Raises:
        ConfigurationError: the folder, or a file in it, is missing.
    """

    asks_a_service = False
    server = ""

    def __init__(self, folder: Path) -> None:
        missing = [name for name in (_WEIGHTS, _TOKENIZER) if not (folder / name).is_file()]
        if missing:
            raise ConfigurationError(
                f"embedder 'onnx/{folder.name}' needs {_WEIGHTS} and {_TOKENIZER} in {folder}; "
                f"missing: {', '.join(missing)}. DOCMILL_MODELS_PATH names the folder above it"
            )
        self._folder = folder

    @cached_property
    def model(self) -> str:
        """The folder's name with a hash of its files: a changed file makes other vectors."""
        return f"onnx/{self._folder.name}@{_hash_files(self._folder)}"

    @cached_property
    def dimension(self) -> int:
        """Floats a vector; loads the model, which alone knows."""
        return len(self._mean("a"))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, of length 1; 0 for a text without tokens."""
        import numpy as np

        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for index, text in enumerate(texts):
            vectors[index] = self._mean(text)
        return scale_rows(vectors)

    def _mean(self, text: str) -> NDArray[np.float32]:
        """One text a run: batches are no faster on a CPU, and dynamic quantization would mix their texts' scales."""
        import numpy as np

        encoding = self._tokenizer.encode(text)
        if not encoding.ids:  # an empty text, and a tokenizer without marks for begin and end
            return np.zeros(self.dimension, dtype=np.float32)
        fields = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
        }
        inputs = {name: np.array([fields[name]], dtype=np.int64) for name in self._input_names}
        hidden: NDArray[np.float32] = self._session.run([self._output_name], inputs)[0][0]
        mean: NDArray[np.float32] = hidden.mean(axis=0, dtype=np.float32)  # nothing is padded: the mask is all ones
        return mean

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self._folder / _TOKENIZER))
        except Exception as error:  # the library raises bare Exceptions
            raise ConfigurationError(f"{self._folder / _TOKENIZER} is not a tokenizer: {error}") from error
        tokenizer.no_padding()
        tokenizer.enable_truncation(_max_tokens(self._folder, tokenizer.truncation))
        return tokenizer

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the worker's processes share the cores already
        options.inter_op_num_threads = 1
        path = self._folder / _WEIGHTS
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's errors share no other parent
            raise ConfigurationError(f"{path} is not an ONNX model this runtime can load: {error}") from error
        return session

    @cached_property
    def _input_names(self) -> list[str]:
        names = [field.name for field in self._session.get_inputs()]
        unknown = set(names) - {"input_ids", "attention_mask", "token_type_ids"}
        if unknown:
            raise ConfigurationError(
                f"{self._folder / _WEIGHTS} asks for {', '.join(sorted(unknown))}; an encoder that can be used here "
                "takes input_ids, attention_mask and token_type_ids alone"
            )
        return names

    @cached_property
    def _output_name(self) -> str:
        output = self._session.get_outputs()[0]
        if len(output.shape) != 3:
            raise ConfigurationError(
                f"{self._folder / _WEIGHTS} gives {output.name} of shape {output.shape} first; "
                "expected is the last hidden state: batch, tokens, dimension"
            )
        return str(output.name)


def _max_tokens(folder: Path, truncation: dict[str, Any] | None) -> int:
    path = folder / _LENGTH
    if not path.is_file():
        return int(truncation["max_length"]) if truncation else _MAX_TOKENS
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["max_seq_length"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} holds no whole number under max_seq_length: {error!r}") from error


def _hash_files(folder: Path) -> str:
    """12 hex characters over everything that decides the vectors; weights may go on in files beside `model.onnx`."""
    state = hashlib.sha256()
    for path in (*sorted(folder.glob(f"{_WEIGHTS}*")), folder / _TOKENIZER, folder / _LENGTH):
        if path.is_file():
            with path.open("rb") as file:
                state.update(hashlib.file_digest(file, "sha256").digest())
    return state.hexdigest()[:12]
