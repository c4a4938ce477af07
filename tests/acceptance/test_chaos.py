"""The quickest faults of the chaos suite; `make chaos` tries all of them, on both brokers."""

from collections.abc import Iterator

import pytest

from tests.chaos.judge import judge, nodes_of
from tests.chaos.service_faults import SERVICE_FAULTS
from tests.chaos.stack import Stack
from tests.chaos.trial import CORPUS, Broker, corpus, run_trial
from tests.chaos.worker_faults import WORKER_FAULTS
from tests.services import Services

pytestmark = pytest.mark.acceptance

_FAULTS = {fault.name: fault for fault in (*WORKER_FAULTS, *SERVICE_FAULTS)}


@pytest.fixture(scope="module")
def calm(services: Services) -> Iterator[Stack]:
    """A stack that has ingested the corpus, and nothing went wrong."""
    with Stack(services, None) as stack:
        stack.start_worker()
        stack.pipeline(0.0).run(corpus(CORPUS), timeout=60)
        yield stack


@pytest.fixture(scope="module")
def undisturbed(calm: Stack) -> frozenset[tuple[str, str]]:
    """The nodes that the corpus makes when nothing goes wrong."""
    return frozenset(nodes_of(calm))


def test_the_judge_sees_what_is_lost_and_what_is_copied(calm: Stack, undisturbed: frozenset[tuple[str, str]]) -> None:
    """A node that is not there is a document lost, one too many is a document copied; else there is neither."""
    document, node = min(undisturbed)
    fair = judge(calm, undisturbed)
    lost = judge(calm, undisturbed | {(document, "another node")})
    copied = judge(calm, undisturbed - {(document, node)})
    assert [(found.lost, found.copied) for found in (fair, lost, copied)] == [(0, 0), (1, 0), (0, 1)]
    assert fair.is_clean


@pytest.mark.parametrize("name", ["delivered-twice", "redis-restart", "flushall"])
def test_nothing_is_lost_or_copied(name: str, services: Services, undisturbed: frozenset[tuple[str, str]]) -> None:
    """Within 30 seconds of the fault the job ends by itself, with the nodes of an undisturbed run."""
    fault = _FAULTS[name]
    with Stack(services, None, aof=fault.aof) as stack:
        result = run_trial(fault, Broker.REDIS, stack, undisturbed, seed="1")
    assert result.is_good, result
    assert result.seconds < 30
