"""Single flight: what two workers want at the same moment is paid for once, and nobody waits for the dead for ever."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from orchestrator.contracts.hashing import digest
from orchestrator.contracts.payload import BatchDocument
from orchestrator.contracts.spec import PipelineSpec
from tests.ledgers import at_once
from tests.openai_server import OpenAIStub, openai_stub
from workers.caches import IngestionCache, open_cache
from workers.caches.single_flight import in_single_flight
from workers.chain import BatchBill, Chain
from workers.transformations import Embed, SentenceSplitter

_DIMENSION = 2
_KEYS = [f"e{number}" for number in range(10)]

Vectors = dict[str, NDArray[np.float32]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIStub]:
    """A server that the settings name."""
    with openai_stub() as stub:
        monkeypatch.setenv("DOCMILL_OPENAI_BASE_URL", stub.url)
        yield stub


@pytest.fixture(params=["redis", "sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], IngestionCache]:
    """Opens the same cache again and again, as the processes of several workers do."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'cache.sqlite'}"
    else:
        url = request.getfixturevalue({"redis": "cache_url", "postgresql": "postgres_url"}[request.param])
    collection = uuid4().hex
    return lambda: IngestionCache(collection, open_cache(url))


def made(keys: Sequence[str]) -> Vectors:
    return {key: np.full(_DIMENSION, float(key[1:]), np.float32) for key in keys}


def test_two_workers_pay_for_the_same_texts_once(server: OpenAIStub, shared: Callable[[], IngestionCache]) -> None:
    """Four workers that embed the same document at once send each text once between them, and all have its vectors."""
    server.pause = 0.2
    text = "\n\n".join(f"section {number} tells of subject{number} and of nothing else at all." for number in range(24))
    steps = SentenceSplitter(chunk_size=16, chunk_overlap=0), Embed("openai/embedding-test@16", batch_size=8)
    spec = PipelineSpec(name="test", collection="test", transformations=tuple(step.spec() for step in steps))
    content = text.encode()
    document = BatchDocument("one", 0, True, True, content, {}, digest(content), digest(content), None)
    bills = [BatchBill() for _ in range(4)]

    def embed(index: int) -> bytes:
        chain = Chain(spec, shared())
        (result,) = chain.run([document], bills[index]).documents
        return b"".join(node.embedding.tobytes() for node in result.nodes if node.embedding is not None)

    vectors = at_once(4, embed)
    assert len(set(vectors)) == 1
    assert len(vectors[0]) == 24 * 16 * 4
    sent = Counter(text for request in server.requests for text in request["input"])
    assert len(sent) == 24
    assert max(sent.values()) == 1
    assert sum(bill.spending.total.embedding for bill in bills) == server.embedding


def test_a_failure_leaves_the_work_to_others(shared: Callable[[], IngestionCache]) -> None:
    """What one claimed and failed to get is free at once: who waits for it takes it over."""

    def fail(keys: Sequence[str]) -> Vectors:
        raise RuntimeError(f"no {keys[0]}")

    with pytest.raises(RuntimeError, match="no e0"):
        in_single_flight(shared(), _KEYS, _DIMENSION, fail, size=4)
    found = in_single_flight(shared(), _KEYS, _DIMENSION, made, size=4, pause=lambda _: pytest.fail("waits"))
    assert found.keys() == set(_KEYS)


def test_nobody_waits_for_the_dead_for_ever(shared: Callable[[], IngestionCache]) -> None:
    """What another has claimed and neither stores nor releases is worked out after all, when patience is at its end."""
    assert shared().claim(_KEYS[:3], 3600.0) == _KEYS[:3]
    now = 0.0
    asked: list[str] = []

    def pause(seconds: float) -> None:
        nonlocal now
        assert asked == _KEYS[3:], "first what nobody else is at"
        now += 5.0

    def work_out(keys: Sequence[str]) -> Vectors:
        asked.extend(keys)
        return made(keys)

    found = in_single_flight(shared(), _KEYS, _DIMENSION, work_out, size=10, clock=lambda: now, pause=pause)
    assert asked == [*_KEYS[3:], *_KEYS[:3]]
    assert now == 20.0
    assert [found[key][0] for key in _KEYS] == list(range(10))
