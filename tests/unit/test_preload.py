"""What a worker loads before it forks."""

import os
import subprocess
import sys

import pytest

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.settings import load_settings
from workers.preload import preload

_PROGRAM = """
import sys
from orchestrator.settings import load_settings
from workers.preload import preload
preload(load_settings(database_url="postgresql://nobody@nowhere.invalid/none", broker_url="redis://nowhere.invalid"))
print(*sorted(
    {
        "celery.backends.redis", "openai", "psycopg", "semantic_text_splitter", "toktok", "workers.caches.redis",
        "workers.transformations.parse", "workers.transformations.sentence_splitter", "workers.vector_stores.pgvector",
    }
    & set(sys.modules)
))
"""


@pytest.mark.parametrize(
    ("server", "also"), [({}, []), ({"DOCMILL_OPENAI_BASE_URL": "http://nowhere.invalid/v1"}, ["openai"])]
)
def test_what_children_use_is_there_before_they_are(server: dict[str, str], also: list[str]) -> None:
    """What most pipelines use is loaded, and the client of a server that is named, though no server answers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")} | server

    done = subprocess.run([sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.split() == [
        *("celery.backends.redis", *also, "psycopg", "semantic_text_splitter", "toktok", "workers.caches.redis"),
        *("workers.transformations.parse", "workers.transformations.sentence_splitter"),
        "workers.vector_stores.pgvector",
    ]


def test_a_worker_with_a_wrong_address_says_so_before_it_forks() -> None:
    """An address that no ledger can have is refused at once, with what is allowed."""
    with pytest.raises(ConfigurationError, match=r"'mysql'; allowed are postgresql\+psycopg://… and sqlite:///…"):
        preload(load_settings(database_url="mysql://nobody@nowhere.invalid/none", broker_url="redis://nowhere.invalid"))
