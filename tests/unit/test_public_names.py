"""The public doors: what they promise can be imported, and nothing else is promised."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

_DOORS = ["orchestrator", "workers", "workers.caches", "workers.transformations"]
_ROOT = Path(__file__).parents[2]
_MODULES = sorted(
    path.relative_to(_ROOT).with_suffix("")
    for room in ("orchestrator", "workers")
    for path in (_ROOT / room).rglob("*.py")
    if path.name not in ("__main__.py", "guard.py")  # programs, not modules
)


@pytest.mark.parametrize("door", _DOORS)
def test_every_public_name_can_be_imported(door: str) -> None:
    """Each name of `__all__` is there, and is what its own module calls by that name."""
    module = importlib.import_module(door)
    assert module.__all__ == sorted(set(module.__all__))
    for name in module.__all__:
        found = getattr(module, name)
        assert getattr(importlib.import_module(found.__module__), name) is found
        assert found.__module__.startswith(door)


@pytest.mark.parametrize("door", _DOORS)
def test_what_type_checkers_see_is_what_is_public(door: str) -> None:
    """The names that a type checker is told of are those of `__all__`."""
    module = importlib.import_module(door)
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    imported = [alias.name for node in ast.walk(blocks[0]) if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(imported) == module.__all__


@pytest.mark.parametrize("door", _DOORS)
def test_other_names_are_an_error(door: str) -> None:
    """A name that the door does not know is an AttributeError that says so, and all public names are listed."""
    module = importlib.import_module(door)
    with pytest.raises(AttributeError, match=rf"{door}.*nothing_of_that_name"):
        _ = module.nothing_of_that_name
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("path", _MODULES, ids=str)
def test_every_module_has_what_it_exports(path: Path) -> None:
    """The names in a module's `__all__` are there, each once."""
    module = importlib.import_module(".".join(path.parts).removesuffix(".__init__"))
    names = getattr(module, "__all__", [])
    assert [name for name in names if not hasattr(module, name)] == []
    assert len(set(names)) == len(names)


def test_the_workers_door_loads_nothing_heavy() -> None:
    """Importing the public names of `workers`, but those that connect, loads no library of a model or a service."""
    program = """
import sys
import workers
for name in workers.__all__:
    if name not in ("RedisCache", "SqlCache"):
        getattr(workers, name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"celery", "numpy", "openai", "redis", "rich", "semantic_text_splitter", "sqlalchemy", "tiktoken", "toktok"}
    assert heavy & set(done.stdout.split()) == set()
