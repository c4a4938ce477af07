"""The payload of a batch: its documents as bytes in the ledger, compressed, capped when opened."""

import threading
from typing import Any, NamedTuple

import msgpack
import zstandard

from orchestrator.contracts.errors import PayloadError

__all__ = ["BatchDocument", "decode_payload", "deserialize", "encode_payload", "pack", "serialize", "unpack"]

_ZSTD_LEVEL = 1  # the payload is written once and read once: speed counts
_BUFFER_BYTES = 3 * 512 * 1024  # of a packer: a batch, or what comes of one
_KEPT_BYTES = 4 * 1024 * 1024  # that it may have grown to
MAX_UNPACKED_BYTES = 1 << 30  # a bomb stops here; the largest document allowed is far below


def _new_packer() -> msgpack.Packer:
    return msgpack.Packer(use_bin_type=True, unicode_errors="surrogatepass", buf_size=_BUFFER_BYTES)


class _Kept(threading.local):
    """What each thread keeps for itself, as no two may share one.

    A new packer for every megabyte, with its buffer, takes eight times as long as to fill it; a new compressor costs as
    much as to compress a small document.
    """

    def __init__(self) -> None:
        self.packer = _new_packer()
        self.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)


_kept = _Kept()


class BatchDocument(NamedTuple):
    """A document on its way to a worker, with what the ledger will remember of it.

    Attributes:
        id: the document's id.
        sequence: its place in the job; of two documents with one id the later wins.
        is_new: the ledger did not know the id when the document was read.
        is_text: `content` is UTF-8 text the caller handed in; else the bytes of a file, still to be parsed.
        content: the body.
        metadata: JSON values.
        content_hash: hash of body and metadata.
        body_hash: hash of the body alone; names duplicates.
        stamp: the file's, for the gate of the next run; None for a text, or a file too young.
        is_split: `content` are nodes, by `pack_handed`: somebody else has split the document.
    """

    id: str
    sequence: int
    is_new: bool
    is_text: bool
    content: bytes
    metadata: dict[str, Any]
    content_hash: str
    body_hash: str
    stamp: str | None
    is_split: bool = False


def serialize(value: Any) -> bytes:
    """The value as msgpack.

    Raises:
        TypeError, ValueError, OverflowError: it holds what msgpack cannot: objects, integers of more than 64 bits.
    """
    packed: bytes = _kept.packer.pack(value)
    if len(packed) > _KEPT_BYTES:
        _kept.packer = _new_packer()
    return packed


def deserialize(data: bytes) -> Any:
    """The inverse of `serialize`.

    Raises:
        TypeError, ValueError, msgpack.UnpackException: the bytes are damaged.
    """
    return msgpack.unpackb(data, unicode_errors="surrogatepass", strict_map_key=False)


def pack(value: Any) -> bytes:
    """msgpack, then zstd, with a checksum. Raises what `serialize` raises."""
    return _kept.compressor.compress(serialize(value))


def unpack(data: bytes | memoryview, *, max_bytes: int = MAX_UNPACKED_BYTES) -> Any:
    """The inverse of `pack`.

    Raises:
        PayloadError: the data are damaged, or would unpack to more than `max_bytes`.
    """
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= max_bytes:
            raise PayloadError(f"payload unpacks to {size} bytes; allowed are 0 to {max_bytes}")
        raw = zstandard.decompress(data, max_output_size=max_bytes)
        return deserialize(raw)
    except (zstandard.ZstdError, TypeError, ValueError, msgpack.UnpackException) as error:
        raise PayloadError(f"payload of {len(data)} bytes is damaged: {error}") from error


def encode_payload(documents: list[BatchDocument]) -> bytes:
    """A batch's documents as compressed bytes."""
    return pack([tuple(document) for document in documents])


def decode_payload(data: bytes) -> list[BatchDocument]:
    """The inverse of `encode_payload`.

    Raises:
        PayloadError: the bytes are damaged.
    """
    try:
        return [BatchDocument(*fields) for fields in unpack(data)]
    except TypeError as error:
        raise PayloadError(f"payload holds something that is not a document: {error}") from error
