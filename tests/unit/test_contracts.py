"""The contracts: hashes that never meet, payloads that come back, specs and documents that refuse what is wrong."""

import math
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.contracts.documents import Document
from orchestrator.contracts.errors import DocumentError, PayloadError
from orchestrator.contracts.hashing import canonical_json, digest
from orchestrator.contracts.messages import CommitMessage, FinishMessage, OptimizeMessage, TransformMessage, job_channel
from orchestrator.contracts.nodes import node_id
from orchestrator.contracts.payload import BatchDocument, decode_payload, encode_payload, pack, unpack
from orchestrator.contracts.spec import PipelineSpec, TransformationSpec

_JOB = "0123456789ab"
_ANY_TEXT = st.text(st.characters())  # lone surrogates too
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_ANY_TEXT, inner, max_size=4),
    max_leaves=10,
)
_SPLIT = TransformationSpec(name="sentence_splitter", version=1, parameters={"chunk_size": 512})
_EMBED = TransformationSpec(name="embed", version=1, parameters={"embedder": "hashed"}, tuning={"batch_size": 64})


def _document(**fields: Any) -> BatchDocument:
    defaults: dict[str, Any] = {
        "id": "a",
        "sequence": 0,
        "is_new": True,
        "is_text": True,
        "content": b"text",
        "metadata": {},
        "content_hash": "c" * 40,
        "body_hash": "b" * 40,
        "stamp": None,
    }
    return BatchDocument(**{**defaults, **fields})


def _pipeline(*steps: TransformationSpec, **fields: Any) -> PipelineSpec:
    return PipelineSpec(**{"name": "handbook", "collection": "handbook", "transformations": steps, **fields})


def test_a_value_that_cannot_be_packed_leaves_nothing_behind() -> None:
    """After a value with an object in it, and after one of 5 MB, the next is packed as if there had been none."""
    expected = pack({"a": [1, "b"]})
    with pytest.raises(TypeError, match="object"):
        pack(["x" * 5000, object()])
    assert pack({"a": [1, "b"]}) == expected
    assert unpack(pack(["x" * 5_000_000])) == ["x" * 5_000_000]
    assert pack({"a": [1, "b"]}) == expected


@given(st.lists(_ANY_TEXT | st.binary(), max_size=5), st.lists(_ANY_TEXT | st.binary(), max_size=5))
def test_different_fields_have_different_digests(first: list[str | bytes], second: list[str | bytes]) -> None:
    """Two lists of fields have one digest exactly when they are the same bytes, field by field."""

    def as_bytes(fields: list[str | bytes]) -> list[bytes]:
        return [field.encode("utf-8", "surrogatepass") if isinstance(field, str) else field for field in fields]

    assert (digest(*first) == digest(*second)) is (as_bytes(first) == as_bytes(second))


@given(st.text(min_size=1), st.text(min_size=1))
def test_border_between_fields_is_part_of_the_digest(first: str, second: str) -> None:
    """Moving a character from one field to the next, or joining two fields, gives another digest."""
    moved = digest(first + second[0], second[1:])
    assert len({digest(first, second), digest(first + second), moved, digest(first, second, "")}) == 4


def test_digest_is_stable() -> None:
    """A digest is 40 hex characters, and the same in every process and release: ledgers and caches live on it."""
    assert digest("handbook", b"\x00", "") == digest(b"handbook", "\x00", b"")
    assert digest() == "3345524abf6bbe1809449224b5972c41790b6cf2"
    assert digest("a", "b") == "58a76ffd4068c9fb5b01cb80877cfe477a34f57e"


@given(st.dictionaries(_ANY_TEXT, _JSON, max_size=5))
def test_order_of_keys_does_not_matter_to_canonical_json(value: dict[str, Any]) -> None:
    """Equal values give equal text, in whatever order their keys were written."""
    reversed_value = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(reversed_value)


def _cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    "value",
    [{"a": object()}, {"a": {1, 2}}, {"a": math.nan}, {"a": [math.inf]}, {"a": b"bytes"}, {("a", "b"): 1}, _cyclic()],
    ids=["object", "set", "NaN", "infinity", "bytes", "key", "cycle"],
)
def test_canonical_json_refuses_what_json_cannot_hold(value: Any) -> None:
    """What is not JSON is refused, rather than written in a way that another reader would not understand."""
    with pytest.raises((TypeError, ValueError)):
        canonical_json(value)


@settings(max_examples=30)
@given(
    st.lists(
        st.builds(_document, id=_ANY_TEXT, content=st.binary(), metadata=st.dictionaries(_ANY_TEXT, _JSON)), max_size=4
    )
)
def test_payload_comes_back(documents: list[BatchDocument]) -> None:
    """Documents come out of a payload as they went in, with any bytes and any metadata, lone surrogates included."""
    assert decode_payload(encode_payload(documents)) == documents


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
def test_payload_refuses_integers_that_it_cannot_hold(number: int) -> None:
    """An integer of more than 64 bits is an error, not another number."""
    with pytest.raises(OverflowError):
        encode_payload([_document(metadata={"n": number})])


def test_damage_is_noticed_wherever_it_is() -> None:
    """A payload with any one bit turned, or cut at any place, is an error, or still the same documents."""
    documents = [_document(id=f"d{index}", content=b"some words \xff" * 9, metadata={"k": "v"}) for index in range(3)]
    payload = encode_payload(documents)
    for place in range(len(payload)):
        damaged = bytearray(payload)
        for bit in range(8):
            damaged[place] = payload[place] ^ (1 << bit)
            assert _decoded(bytes(damaged)) in (None, documents)
        assert _decoded(payload[:place]) is None


def _decoded(data: bytes) -> list[BatchDocument] | None:
    try:
        return decode_payload(data)
    except PayloadError:
        return None


@given(st.binary())
def test_anything_else_is_no_payload(data: bytes) -> None:
    """Bytes that are no payload are a PayloadError, bare or well compressed."""
    for attempt in (data, zstandard.compress(data)):
        try:
            unpack(attempt)
        except PayloadError:
            continue


@pytest.mark.parametrize("value", [7, None, "text", [1], [[1, 2]], {"a": 1}, [None]])
def test_other_values_are_no_documents(value: Any) -> None:
    """A payload that holds something else than documents is a PayloadError."""
    with pytest.raises(PayloadError, match="not a document"):
        decode_payload(pack(value))


def test_bomb_is_not_opened() -> None:
    """What would unpack to more than is allowed is refused before it is unpacked, and so is what does not say."""
    bomb = pack(b"\0" * 2_000_000)
    assert len(bomb) < 1000
    with pytest.raises(PayloadError, match=r"2000005 bytes; allowed are 0 to 1000000"):
        unpack(bomb, max_bytes=1_000_000)
    stream = zstandard.ZstdCompressor(write_content_size=False).compress(b"\0" * 2_000_000)
    with pytest.raises(PayloadError, match="-1 bytes"):
        unpack(stream)


@pytest.mark.parametrize("fields", [{}, {"id": "a"}, {"text": "a", "uri": "b"}])
def test_document_has_one_body(fields: dict[str, Any]) -> None:
    """A document with neither a text nor a uri, or with both, is refused; an empty text is a text."""
    with pytest.raises(ValidationError, match="either a text or a uri"):
        Document(**fields)
    assert Document(text="").text == ""


@pytest.mark.parametrize("fields", [{"text": b"\xff\xfe"}, {"text": "a", "extra": 1}, {"text": "a", "metadata": None}])
def test_document_refuses_fields_that_are_not_its_own(fields: dict[str, Any]) -> None:
    """A field that is unknown, or of another type, is refused."""
    with pytest.raises(ValidationError):
        Document(**fields)


def test_document_without_an_id_is_named_by_what_it_is() -> None:
    """A text is named by its content, a file by its uri, and an id goes before both."""
    assert Document(text="a").name == Document(text="a").name != Document(text="b").name
    assert Document(uri="docs/a.md").name == "docs/a.md"
    assert Document(id="x", uri="docs/a.md").name == "x"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("docs/a.md", "docs/a.md"),
        ("/docs/a%20b.md", "/docs/a%20b.md"),
        ("file:///docs/a%20b%23c.md", "/docs/a b#c.md"),
        ("file:docs/a.md", "docs/a.md"),
        ("/docs/what?#1.md", "/docs/what?#1.md"),
    ],
)
def test_uri_leads_to_a_file(uri: str, path: str) -> None:
    """Paths are taken as they are, `file:` URIs are unquoted."""
    assert Document(uri=uri).path == path
    assert Document(text="a").path is None


@pytest.mark.parametrize("uri", ["http://host/a", "s3://bucket/key", "http://[", "file://[/a", "//[a"])
def test_uri_that_cannot_be_read_is_this_documents_error(uri: str) -> None:
    """A scheme that this machine cannot read, or a uri that is none, is an error of that one document, with the uri."""
    with pytest.raises(DocumentError) as caught:
        _ = Document(uri=uri).path
    assert uri in str(caught.value)
    assert caught.value.stage == "read"


@given(_ANY_TEXT, _ANY_TEXT, st.integers(0, 2**31), _ANY_TEXT)
def test_id_of_a_node_is_a_uuid(collection: str, document: str, position: int, text: str) -> None:
    """A node's id is a UUID, and the same each time."""
    found = node_id(collection, document, position, text)
    assert UUID(found).hex == found == node_id(collection, document, position, text)


def test_id_of_a_node_names_all_that_it_is() -> None:
    """Another collection, document, position or text is another node; and the id never changes between releases."""
    ids = {node_id(*node) for node in [("c", "d", 0, "t"), ("x", "d", 0, "t"), ("c", "x", 0, "t"), ("c", "d", 1, "t")]}
    assert len(ids | {node_id("c", "d", 0, "x"), node_id("c", "d0", 0, "t"), node_id("cd", "", 0, "t")}) == 7
    assert node_id("c", "d", 0, "t") == "5e0501ce9ccf1ce007f4569b93b70645"


def test_tuning_is_not_in_the_fingerprint_and_parameters_are() -> None:
    """What changes the speed alone does not make documents changed; name, version and parameters do."""
    tuned = _EMBED.model_copy(update={"tuning": {"batch_size": 7}})
    assert _pipeline(_SPLIT, tuned).fingerprint == _pipeline(_SPLIT, _EMBED).fingerprint
    others = [
        _SPLIT.model_copy(update={"parameters": {"chunk_size": 256}}),
        _SPLIT.model_copy(update={"version": 2}),
        _SPLIT.model_copy(update={"name": "markdown_splitter"}),
    ]
    prints = {_pipeline(step, _EMBED).fingerprint for step in (_SPLIT, *others)}
    assert len(prints | {_pipeline(_EMBED).fingerprint}) == 5


def test_order_of_the_steps_is_in_the_fingerprint() -> None:
    """The same steps in another order make other nodes."""
    other = _SPLIT.model_copy(update={"name": "titles"})
    assert _pipeline(_SPLIT, other, _EMBED).fingerprint != _pipeline(other, _SPLIT, _EMBED).fingerprint


def test_name_and_collection_are_not_in_the_fingerprint() -> None:
    """The fingerprint says what was done to a document, not for whom."""
    assert _pipeline(_EMBED).fingerprint == _pipeline(_EMBED, name="b", collection="b").fingerprint


def test_vector_store_is_in_the_fingerprint() -> None:
    """A document whose nodes lie in another vector store, or in none, is not done."""
    stores = ("pgvector", "sqlite", None)
    assert len({_pipeline(_EMBED, vector_store=store).fingerprint for store in stores}) == 3


def test_without_a_vector_store_nothing_needs_embedding() -> None:
    """Where the nodes are the product, `embed` may be left out; a vector store needs it, and says so."""
    assert _pipeline(_SPLIT, vector_store=None).embedder is None
    assert _pipeline(_EMBED, vector_store=None).embedder == _pipeline(_EMBED).embedder
    with pytest.raises(ValidationError, match="let `embed` be the last transformation"):
        _pipeline(_SPLIT, vector_store="sqlite")


@pytest.mark.parametrize("steps", [(), (_SPLIT,), (_EMBED, _SPLIT), (_EMBED, _EMBED)])
def test_embed_stands_once_and_last(steps: tuple[TransformationSpec, ...]) -> None:
    """A pipeline without `embed`, with two, or with something behind it is refused."""
    with pytest.raises(ValidationError, match=r"embed|at least 1 item"):
        _pipeline(*steps)


@pytest.mark.parametrize("collection", ["", "A", "-a", "_a", "a b", "a/b", "a\n", "ä", "a" * 64, "a;drop"])
def test_collection_has_a_plain_name(collection: str) -> None:
    """The name of a collection becomes one of a table: a-z, 0-9, - and _, 63 at most, nothing else."""
    assert _pipeline(_EMBED, collection="a1_-" + "a" * 59).collection
    with pytest.raises(ValidationError):
        _pipeline(_EMBED, collection=collection)


def test_spec_comes_back_from_json() -> None:
    """A spec in the ledger is the spec that went in."""
    spec = _pipeline(_SPLIT, _EMBED, strategy="duplicates_only")
    assert PipelineSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.embedder == "hashed"


@pytest.mark.parametrize(
    "job", ["", "0123456789a", "0123456789abc", "0123456789AB", "0123456789a\n", "0123456789ab\n", 7, None]
)
@pytest.mark.parametrize("message", [FinishMessage, OptimizeMessage])
def test_message_refuses_what_is_no_id_of_a_job(message: Callable[..., object], job: object) -> None:
    """A job is 12 hex characters; anything else on the wire is refused."""
    assert message(job=_JOB)
    with pytest.raises(ValidationError):
        message(job=job)


@pytest.mark.parametrize("number", [-1, 2**31, 1.5, "x", None, [1]])
def test_message_refuses_what_is_no_number_of_a_batch(number: object) -> None:
    """The number of a batch is from 0 to 2³¹ - 1, alone and in a segment."""
    assert TransformMessage(job=_JOB, batch=2**31 - 1)
    with pytest.raises(ValidationError):
        TransformMessage.model_validate({"job": _JOB, "batch": number})
    with pytest.raises(ValidationError):
        CommitMessage.model_validate({"job": _JOB, "batches": [0, number]})


@pytest.mark.parametrize("arguments", [{"batches": []}, {"batches": [0] * 10_001}, {"batches": [0], "extra": 1}, {}])
def test_segment_is_neither_empty_nor_endless(arguments: dict[str, Any]) -> None:
    """A commit names 1 to 10,000 batches, and nothing else."""
    with pytest.raises(ValidationError):
        CommitMessage.model_validate({"job": _JOB, **arguments})


def test_keys_of_one_job_stay_together_in_a_cluster() -> None:
    """The channel of a job carries the job in braces, as all of its keys do."""
    assert job_channel(_JOB) == "docmill:{0123456789ab}:events"
