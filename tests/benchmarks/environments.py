"""Environments: each in a folder of its own below the user's cache, with pinned versions.

docmill has one too, with what its lock names and no more: the tools of the tests beside it are loaded by libraries that
look for them, and would be measured as part of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["NotInstalled", "environment_python"]

_ROOT = Path(__file__).parents[2]
_LOCK = _ROOT / "requirements.lock"

# What is handed to uv's `pip install`, one call after another.
_INSTALLS: dict[str, tuple[tuple[str, ...], ...]] = {
    "docmill": (
        ("--require-hashes", "--no-deps", "-r", str(_LOCK)),
        ("--no-deps", "--no-build-isolation", "-e", str(_ROOT)),
    ),
    # Copies: nltk, which LlamaIndex splits with, refuses to read files that are linked to uv's cache.
    "llamaindex": (("--link-mode", "copy", "llama-index-core==0.14.25", "llama-index-vector-stores-postgres==0.9.0"),),
    "cocoindex": (
        (
            *("cocoindex==1.0.26", "asyncpg==0.32.0", "pgvector==0.5.1", "numpy==2.4.6"),
            *("semantic-text-splitter==0.33.1", "toktok-rs==0.3.0"),
        ),
    ),
}
_READ = {"docmill": (_LOCK, _ROOT / "pyproject.toml")}  # files that what is installed depends on
_DONE = "docmill-requirements.txt"  # written last: an environment without it is not whole
_INSTALL_SECONDS = 600


class NotInstalled(Exception):
    """A subject cannot be measured here, and why."""


def environment_python(name: str) -> Path:
    """The interpreter of an environment, made where it is missing or was made for other versions.

    Raises:
        NotInstalled: the packages cannot be had.
    """
    folder = _cache_folder() / "benchmarks" / name
    files = [path.read_text(encoding="utf-8") for path in _READ.get(name, ())]
    wanted = "\n".join([*(" ".join(install) for install in _INSTALLS[name]), *files])
    python = folder / "bin" / "python"
    done = folder / _DONE
    if not done.exists() or done.read_text() != wanted:
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        if uv is None:
            raise NotInstalled("uv is not installed")
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        for install in _INSTALLS[name]:
            # Compiled, or every start might do it anew, in the memory of what is measured.
            _run([uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *install])
        done.write_text(wanted)
    return python


def _cache_folder() -> Path:
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "docmill"


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        raise NotInstalled(error.stderr.strip().splitlines()[-1] if error.stderr.strip() else str(error)) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from error
