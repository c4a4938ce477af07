"""The user that Postgres runs as when we are root, which it refuses to be."""

import os
import pwd
import shutil
import subprocess
import sys
from typing import NamedTuple

from orchestrator.contracts.errors import ConfigurationError

__all__ = ["SystemUser", "system_user"]

_NAME = "docmill"
_MACOS_NAME = "_postgres"  # every macOS has it


class SystemUser(NamedTuple):
    """A user by number."""

    uid: int
    gid: int


def system_user() -> SystemUser | None:
    """The user to run Postgres as; None where we are a plain user and run it ourselves.

    Root gets the system user `docmill`, made at first use: without a password, a shell or a home.

    Raises:
        ConfigurationError: there is no such user and it cannot be made.
    """
    if os.geteuid() != 0:
        return None
    name = _MACOS_NAME if sys.platform == "darwin" else _NAME
    reason = ""
    if not _exists(name) and shutil.which("useradd"):
        made = subprocess.run(
            ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
            capture_output=True,
            text=True,
        )
        reason = made.stderr.strip()
    # Asked again whatever useradd said: another command may have been first.
    if not _exists(name):
        raise ConfigurationError(
            f"Postgres does not run as root, and its user {name!r} does not exist and cannot be made "
            f"({reason or 'useradd is not installed'}): add a system user of that name, or run docmill as a plain user"
        )
    entry = pwd.getpwnam(name)
    return SystemUser(entry.pw_uid, entry.pw_gid)


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
