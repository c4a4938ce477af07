"""The quickest faults of the chaos suite; `make chaos` tries all of them, on both brokers."""

import pytest

from tests.chaos.judge import nodes_of
from tests.chaos.service_faults import SERVICE_FAULTS
from tests.chaos.stack import Stack
from tests.chaos.trial import CORPUS, Broker, corpus, run_trial
from tests.chaos.worker_faults import WORKER_FAULTS
from tests.services import Services

pytestmark = pytest.mark.acceptance

_FAULTS = {fault.name: fault for fault in (*WORKER_FAULTS, *SERVICE_FAULTS)}


@pytest.fixture(scope="module")
def undisturbed(services: Services) -> frozenset[tuple[str, str]]:
    """The nodes that the corpus makes when nothing goes wrong."""
    with Stack(services, None) as stack:
        stack.start_worker()
        stack.pipeline(0.0).run(corpus(CORPUS), timeout=60)
        return frozenset(nodes_of(stack))


@pytest.mark.parametrize("name", ["delivered-twice", "redis-restart", "flushall"])
def test_nothing_is_lost_or_copied(name: str, services: Services, undisturbed: frozenset[tuple[str, str]]) -> None:
    """Within 30 seconds of the fault the job ends by itself, with the nodes of an undisturbed run."""
    fault = _FAULTS[name]
    with Stack(services, None, aof=fault.aof) as stack:
        result = run_trial(fault, Broker.REDIS, stack, undisturbed, seed="1")
    assert result.is_good, result
    assert result.seconds < 30
