"""Environments of the others: each in a folder of its own below the user's cache, with pinned versions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["NotInstalled", "environment_python"]

REQUIREMENTS = {
    "llamaindex": ("llama-index-core==0.14.25", "llama-index-vector-stores-postgres==0.9.0"),
    "cocoindex": (
        *("cocoindex==1.0.26", "asyncpg==0.32.0", "pgvector==0.5.1", "numpy==2.4.6"),
        *("semantic-text-splitter==0.33.1", "toktok-rs==0.3.0"),
    ),
}
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
    wanted = "\n".join(REQUIREMENTS[name])
    python = folder / "bin" / "python"
    done = folder / _DONE
    if not done.exists() or done.read_text() != wanted:
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        if uv is None:
            raise NotInstalled("uv is not installed")
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        # Copies: nltk, which LlamaIndex splits with, refuses to read files that are linked to uv's cache.
        _run([uv, "pip", "install", "--quiet", "--link-mode", "copy", "--python", str(python), *REQUIREMENTS[name]])
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
