"""The walls between the rooms, and the rules of the house that a test can hold."""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_HEAVY = frozenset(
    {
        "alembic",
        "celery",
        "kombu",
        "langchain_core",
        "llama_index",
        "numpy",
        "onnxruntime",
        "openai",
        "psycopg",
        "pypdfium2",
        "redis",
        "selectolax",
        "semantic_text_splitter",
        "sqlalchemy",
        "tiktoken",
        "tokenizers",
        "toktok",
        "wordllama",
    }
)
_MAX_LINES = 400
_HELP_SECONDS = 1.0  # the goal is 0.25 s; a busy machine gets some patience

_CONSTRUCT = """
from orchestrator import IngestionPipeline
from workers.transformations import Embed, MarkdownSplitter, Parse, SentenceSplitter, TitleExtractor
IngestionPipeline("titled", [SentenceSplitter(), TitleExtractor(llm="openai/small"), Embed("openai/embedder@64")])
IngestionPipeline("handbook", [SentenceSplitter(chunk_size=512, chunk_overlap=64), Embed("wordllama")])
IngestionPipeline("manual", [Parse(), MarkdownSplitter(), Embed("wordllama")], vector_store="sqlite")
IngestionPipeline("default")
"""
_HELP = """
from orchestrator.cli import main
sys.argv = ["docmill", {arguments}]
try:
    main()
except SystemExit as end:
    assert not end.code
"""


def _sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (_ROOT / folder).rglob("*.py"))


def _loaded(code: str) -> frozenset[str]:
    """The heavy libraries that are loaded once some code has run in a process of its own."""
    report = "import json; print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCMILL_")}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{report}"],
        cwd=_ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return _HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


def test_no_room_imports_what_it_must_not() -> None:
    """The contracts of import-linter in pyproject.toml hold."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_front_door_loads_nothing_heavy() -> None:
    """Importing docmill and all of its public names but those that connect loads no library of a service or a model."""
    assert _loaded("import orchestrator") == set()
    names = "DocmillError, DocstoreStrategy, Document, FileReader, IngestionPipeline, Job, Report, Settings"
    assert _loaded(f"from orchestrator import {names}") == set()


def test_constructing_a_pipeline_loads_nothing_heavy() -> None:
    """A client constructs pipelines and transformations without the libraries that only a worker needs."""
    assert _loaded(_CONSTRUCT) == set()


def test_vendor_libraries_are_imported_at_first_use() -> None:
    """Importing every transformation, embedder, store and tokenizer loads no model, parser or splitter."""
    modules = [
        "transformations.parse",
        "transformations.embed",
        "embedders.registry",
        "embedders.llama_index",
        "embedders.openai",
        "llms.openai",
        "tokens.tokenizer",
        "transformations.llama_index",
        "caches.redis",
    ]
    code = "\n".join(f"import workers.{module}" for module in modules)
    assert _loaded(code) <= {"numpy", "redis"}


def test_an_up_to_date_ledger_loads_no_migrations(tmp_path: Path) -> None:
    """Connecting to a ledger that is at this release's level, and upgrading it, does without Alembic."""
    engine = f"create_ledger_engine('sqlite:///{tmp_path}/ledger.db')"
    code = f"from orchestrator.ledger.engine import create_ledger_engine\nengine = {engine}\n"
    code += "from orchestrator.ledger.migrate import require_current, upgrade\nupgrade(engine)\n"
    assert "alembic" in _loaded(code)
    assert "alembic" not in _loaded(code + "require_current(engine)")


@pytest.mark.parametrize("command", ["", "ingest", "search", "worker"])
def test_help_loads_nothing_heavy(command: str) -> None:
    """Asking for help, of any command, loads no library of a service or a model."""
    arguments = ", ".join(repr(part) for part in (*command.split(), "--help"))
    assert _loaded(_HELP.format(arguments=arguments)) == set()


def test_help_comes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """`docmill --help` answers within a second; how long it took is printed."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([Path(sys.executable).with_name("docmill"), "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    with capsys.disabled():
        print(f"\ndocmill --help: {min(seconds):.2f} s")  # noqa: T201 - a measurement to be seen
    assert min(seconds) <= _HELP_SECONDS


@pytest.mark.parametrize("room", ["orchestrator", "workers"])
def test_no_file_is_too_long(room: str) -> None:
    """A file past 400 lines holds more than one concept."""
    lengths = {path.relative_to(_ROOT): len(path.read_text("utf-8").splitlines()) for path in _sources(room)}
    assert {str(path): length for path, length in lengths.items() if length > _MAX_LINES} == {}


@pytest.mark.parametrize("folder", ["alembic", "docker"])
def test_folders_named_like_libraries_are_no_packages(folder: str) -> None:
    """`alembic/` and `docker/` have no __init__.py: they would shadow the libraries of the same names."""
    assert list((_ROOT / folder).rglob("__init__.py")) == []


def _tests() -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    found = []
    for path in _sources("tests"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.append((f"{path.relative_to(_ROOT)}::{node.name}", node))
    return found


def test_every_test_begins_with_the_sentence_it_proves() -> None:
    """The first line of a test's docstring is a sentence, and ends with a full stop."""
    wrong = []
    for place, node in _tests():
        first = (ast.get_docstring(node) or "").partition("\n")[0]
        if " " not in first or not first.endswith("."):
            wrong.append(f"{place}: {first!r}")
    assert wrong == []


def test_no_test_hides_another() -> None:
    """Two tests of one file never have the same name: the second would replace the first."""
    places = [place for place, _ in _tests()]
    assert sorted({place for place in places if places.count(place) > 1}) == []


def test_every_logger_is_made_where_lines_get_their_form() -> None:
    """No source makes a logger of structlog itself, whose lines would go to standard output."""
    wrong = [
        str(path.relative_to(_ROOT))
        for path in _sources("orchestrator", "workers")
        if "structlog.get_logger" in path.read_text("utf-8")
    ]
    assert wrong == []


def test_no_source_reads_the_environment_at_import() -> None:
    """Outside of functions no source touches os.environ or loads settings."""
    wrong = []
    for path in _sources("orchestrator", "workers"):
        tree = ast.parse(path.read_text("utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If):
                continue
            if "os.environ" in ast.unparse(node) or "load_settings(" in ast.unparse(node):
                wrong.append(f"{path.relative_to(_ROOT)}:{node.lineno}")
    assert wrong == []
