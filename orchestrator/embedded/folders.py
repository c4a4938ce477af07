"""Where the embedded stack keeps things: its home, and a folder whose path is short enough for sockets."""

import hashlib
import os
import re
import stat
from pathlib import Path

from orchestrator.contracts.errors import ConfigurationError

__all__ = ["MAX_SOCKET_BYTES", "closed_folder", "make_home", "make_private", "make_socket_folder", "resolved"]

MAX_SOCKET_BYTES = 103  # sun_path of macOS without its NUL; Linux has 107
_LONGEST_SOCKET = "postgres/.s.PGSQL.5432.lock"  # Postgres puts its lock beside the socket
_PLAIN_PATH = re.compile(r"[\w./+-]+", re.ASCII)  # the same in a URL, quoted or not
_SHELL_CHARACTERS = re.compile(r'["$`\\\n]')  # pg_ctl hands the data folder to a shell, in double quotes


def resolved(home: Path) -> Path:
    """The one name of a home, whatever links lead to it.

    Raises:
        ConfigurationError: the name holds characters that Postgres cannot be started with.
    """
    home = home.expanduser().resolve()
    if _SHELL_CHARACTERS.search(str(home)):
        raise ConfigurationError(
            f"home {str(home)!r} holds a quote, dollar, backtick, backslash or line break; set DOCMILL_HOME to "
            "a folder without them"
        )
    return home


def make_home(home: Path) -> None:
    """Make the folder where it is missing, with its parents.

    Root's is open to walk through (Postgres runs as another user), everyone else's is closed to others.

    Raises:
        ConfigurationError: it cannot be made or written.
    """
    missing = [folder for folder in (home, *home.parents) if not folder.exists()]
    try:
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711 if os.geteuid() == 0 else 0o700)  # whatever the umask
    except OSError as error:
        raise ConfigurationError(f"home {home} cannot be made: {error.strerror}; set DOCMILL_HOME") from error
    if not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"home {home} is not a folder that user {os.geteuid()} may write; set DOCMILL_HOME to one that is"
        )


def make_private(folder: Path, uid: int | None = None, gid: int = -1) -> None:
    """Make a folder that its owner alone may enter: us, or the user `uid`."""
    folder.mkdir(exist_ok=True)
    if uid is not None:
        os.chown(folder, uid, gid)
    folder.chmod(0o700)


def make_socket_folder(home: Path) -> Path:
    """The folder of the sockets: `run` in the home or, for a path too long or not plain, one in /tmp named by a hash.

    The same home always gets the same folder, so that commands find each other.

    Raises:
        ConfigurationError: the folder in /tmp is somebody else's.
    """
    folder = home / "run"
    if len(os.fsencode(folder / _LONGEST_SOCKET)) > MAX_SOCKET_BYTES or not _PLAIN_PATH.fullmatch(str(folder)):
        name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
        folder = Path("/tmp") / f"docmill-{os.geteuid()}-{name}"  # noqa: S108  # owned and private, or refused
    folder.mkdir(mode=0o711, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigurationError(f"{folder} is not a folder of ours; remove it, or set DOCMILL_HOME to a shorter path")
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    return folder


def closed_folder(path: Path) -> Path | None:
    """The first folder above a path that other users may not walk through, from the root down; None if all are open."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & stat.S_IXOTH), None)
