"""SQLite's write-ahead log, with which readers and a writer do not wait for each other, in files of many processes."""

import sqlite3
import time

__all__ = ["switch_to_wal"]

_RETRY_SECONDS = 0.01


def switch_to_wal(connection: sqlite3.Connection, seconds: float) -> None:
    """Put the file of a connection into WAL mode, in which it stays; nothing happens where it is.

    Args:
        seconds: to wait while others lock the file. SQLite's own timeout does not hold here: when two processes make
            one file, it refuses the second at once.

    Raises:
        sqlite3.OperationalError: the file was locked for longer, or cannot be opened.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
