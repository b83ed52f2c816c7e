"""What can be found out again, only slower: kept on disk between runs, by table and key.

Comes in and goes out: bytes. Nothing here is trusted. A file that is damaged, of another version or
of another checkout, that cannot be read, locked or written, is a cache that has nothing: callers
never see an error. Values have a checksum; a write is whole or not at all.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

FORMAT = 3
PATIENCE = 0.2
"""Seconds to wait for another process that writes."""


class Cache:
    """The cache in the file `path`, of `owner`: a name for whoever may believe it.

    Threads may use it one after the other.
    """

    def __init__(self, path: Path, owner: str) -> None:
        self._path = path
        self._owner = f"{FORMAT} {owner}"
        self._db: sqlite3.Connection | None = None
        self._usable = True
        self._busy = False
        self._tables: set[str] = set()
        self._new: dict[str, dict[str, bytes | None]] = {}

    def get(self, table: str, key: str) -> bytes | None:
        """The value of `key`, as put in this run or an earlier one."""
        new = self._new.get(table)
        if new is not None and key in new:
            return new[key]
        for _, value in self._select(table, "WHERE key = ?", (key,)):
            return value
        return None

    def items(self, table: str) -> Iterator[tuple[str, bytes]]:
        """Everything in a table, by key."""
        new = self._new.get(table, {})
        if not new:
            yield from self._select(table, "ORDER BY key")
            return
        kept = {key: value for key, value in self._select(table) if key not in new}
        kept |= {key: value for key, value in new.items() if value is not None}
        yield from sorted(kept.items())

    def put(self, table: str, key: str, value: bytes) -> None:
        self._new.setdefault(table, {})[key] = value

    def delete(self, table: str, keys: Iterable[str]) -> None:
        self._new.setdefault(table, {}).update(dict.fromkeys(keys))

    def save(self) -> None:
        """Have what is new on disk, if that can be done without waiting for long."""
        new, self._new = self._new, {}
        if not any(new.values()):
            return
        with contextlib.suppress(sqlite3.Error, OSError):
            db = self._opened()
            if self._busy:
                return
            if db is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                db = self._create()
            with db:
                for table, changes in new.items():
                    self._write(db, table, changes)

    def close(self) -> None:
        """Save, and let go of the file."""
        self.save()
        if self._db is not None:
            self._db.close()
            self._db = None

    def _select(
        self, table: str, rest: str = "", values: tuple[str, ...] = ()
    ) -> Iterator[tuple[str, bytes]]:
        db = self._opened()
        if db is None or table not in self._tables:
            return
        query = f'SELECT key, value, sum FROM "{table}" {rest}'
        try:
            for key, value, checksum in db.execute(query, values):
                if zlib.crc32(value) == checksum:
                    yield key, value
        except UnicodeEncodeError:  # no key that was kept
            return
        except (sqlite3.Error, TypeError, ValueError) as error:
            self._busy = _is_busy(error)
            self._discard()

    def _write(
        self, db: sqlite3.Connection, table: str, changes: Mapping[str, bytes | None]
    ) -> None:
        db.execute(
            f'CREATE TABLE IF NOT EXISTS "{table}" '
            "(key TEXT PRIMARY KEY, value BLOB, sum INTEGER) WITHOUT ROWID"
        )
        self._tables.add(table)
        changes = {key: value for key, value in changes.items() if _is_text(key)}
        gone = [(key,) for key, value in changes.items() if value is None]
        db.executemany(f'DELETE FROM "{table}" WHERE key = ?', gone)
        rows = (
            (key, value, zlib.crc32(value)) for key, value in changes.items() if value is not None
        )
        db.executemany(f'INSERT OR REPLACE INTO "{table}" VALUES (?, ?, ?)', rows)

    def _opened(self) -> sqlite3.Connection | None:
        if self._db is None and self._usable:
            self._usable = False
            try:
                db = sqlite3.connect(
                    f"{self._path.absolute().as_uri()}?mode=rw",
                    PATIENCE,
                    uri=True,
                    check_same_thread=False,
                )
                owners = [owner for (owner,) in db.execute("SELECT owner FROM owner")]
                if owners == [self._owner]:
                    self._db = db
                    named = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                    self._tables = {name for (name,) in named}
                else:
                    db.close()
            except (sqlite3.Error, OSError) as error:
                self._busy = _is_busy(error)
        return self._db

    def _create(self) -> sqlite3.Connection:
        """A new file in the place of one that cannot be used."""
        self._path.unlink(missing_ok=True)
        self._path.with_name(f"{self._path.name}-journal").unlink(missing_ok=True)
        db = sqlite3.connect(self._path, PATIENCE, check_same_thread=False)
        with db:
            db.execute("CREATE TABLE owner (owner TEXT)")
            db.execute("INSERT INTO owner VALUES (?)", (self._owner,))
        self._db, self._tables = db, set()
        return db

    def _discard(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db, self._tables = None, set()


def _is_busy(error: Exception) -> bool:
    """Whether another process writes the file just now, so that it is not damaged."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF == sqlite3.SQLITE_BUSY


def _is_text(key: str) -> bool:
    """Whether SQLite takes a key: the name of a file need not be UTF-8."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
