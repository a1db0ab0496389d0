"""The durable log under the store: every revision, in order, until it is compacted.

The interface is what a store needs and no more, so that another one (etcd, say) can take SQLite's place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from testbed.errors import UsageError

SCHEMA_VERSION = 1


class Row(NamedTuple):
    """One revision: an object as it became (`deleted`: as it was when it went). `value` is its JSON."""

    revision: int
    kind: str
    namespace: str
    name: str
    deleted: bool
    value: bytes


class Journal(Protocol):
    """All methods block; the store calls `append` and `trim` from one thread of its own."""

    def compacted(self) -> int:
        """The newest revision that watches can no longer start before."""

    def load(self) -> Iterator[Row]:
        """All rows, oldest first."""

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows, all or none. When it returns they survive a crash of process and machine."""

    def trim(self, compacted: int, revisions: Iterable[int]) -> None:
        """Forget these rows, and remember how far the log is compacted."""

    def close(self) -> None: ...


class SQLiteJournal:
    """A journal in one SQLite file, in WAL mode with an fsync for every commit."""

    def __init__(self, path: Path, patience: float = 5.0) -> None:
        """`patience`: seconds to wait for a server that is just ending. Raises UsageError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, patience, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")  # one server for a file
            self._open()
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"--db {path}: {error}; give a path that can be written") from None

    def _open(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA wal_autocheckpoint=4000")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise sqlite3.DatabaseError(f"it has schema version {version}, known is {SCHEMA_VERSION}")
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS log (revision INTEGER PRIMARY KEY, kind TEXT NOT NULL, "
            "namespace TEXT NOT NULL, name TEXT NOT NULL, deleted INTEGER NOT NULL, value BLOB NOT NULL)"
        )
        self._db.execute("CREATE TABLE IF NOT EXISTS compaction (revision INTEGER NOT NULL)")
        if not self._db.execute("SELECT 1 FROM compaction").fetchone():
            self._db.execute("INSERT INTO compaction VALUES (0)")
        self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._db.execute("COMMIT")

    def compacted(self) -> int:
        return int(self._db.execute("SELECT revision FROM compaction").fetchone()[0])

    def load(self) -> Iterator[Row]:
        query = "SELECT revision, kind, namespace, name, deleted, value FROM log ORDER BY revision"
        for revision, kind, namespace, name, deleted, value in self._db.execute(query):
            yield Row(revision, kind, namespace, name, bool(deleted), value)

    def append(self, rows: Sequence[Row]) -> None:
        self._transaction("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", rows)

    def trim(self, compacted: int, revisions: Iterable[int]) -> None:
        self._transaction(
            "DELETE FROM log WHERE revision = ?",
            [(revision,) for revision in revisions],
            ("UPDATE compaction SET revision = ?", (compacted,)),
        )

    def _transaction(
        self, statement: str, rows: Sequence[Row | tuple[int]], then: tuple[str, tuple[int]] | None = None
    ) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(statement, rows)
            if then:
                self._db.execute(*then)
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._db.close()
