"""What the local Google knows, on disk: resources as JSON documents, and the contents of objects.

One SQLite file, so that a killed server loses nothing and a second process reads the same cloud.
It deliberately knows no resource's meaning: the modules of the APIs do.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

Json = dict[str, Any]
"""A JSON object."""

_WAIT_S = 30.0
_TABLES = """
CREATE TABLE IF NOT EXISTS resource (
    kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS content (
    bucket TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (bucket, name)
) WITHOUT ROWID;
"""


class Kind(StrEnum):
    """Kinds of resource; a resource's name within its kind is Google's full name of it."""

    CLUSTER = "cluster"
    OPERATION = "operation"
    SERVICE_ACCOUNT = "service-account"
    ROLE = "role"
    POLICY = "policy"
    BUCKET = "bucket"
    OBJECT = "object"
    SINK = "sink"
    SCHEDULER_JOB = "scheduler-job"
    SERVICE = "service"
    REPOSITORY = "repository"
    QUOTA = "quota"
    LACKING = "lacking"


class AlreadyExistsError(Exception):
    """There is a resource of this kind and name."""


class MissingError(Exception):
    """There is no resource of this kind and name."""


class GoogleState:
    """Resources by kind and name. Safe for threads and for several processes.

    Args:
        path: the SQLite file; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(
            path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        # What is committed outlives a killed process without waiting for the disk.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_TABLES)

    def get(self, kind: Kind, name: str) -> Json | None:
        """The resource, None if there is none."""
        with self._reading() as db:
            return _get(db, kind, name)

    def find(self, kind: Kind, prefix: str = "") -> list[Json]:
        """The resources whose names begin with `prefix`, by name."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT body FROM resource WHERE kind = ? AND substr(name, 1, ?) = ? ORDER BY name",
                (kind, len(prefix), prefix),
            ).fetchall()
        return [json.loads(body) for (body,) in rows]

    def create(self, kind: Kind, name: str, body: Json) -> None:
        """Add a resource.

        Raises:
            AlreadyExistsError: the name is taken.
        """
        with self._writing() as db:
            if _get(db, kind, name) is not None:
                raise AlreadyExistsError(name)
            _put(db, kind, name, body)

    def put(self, kind: Kind, name: str, body: Json) -> None:
        """Add or replace a resource."""
        with self._writing() as db:
            _put(db, kind, name, body)

    def update(
        self,
        kind: Kind,
        name: str,
        change: Callable[[Json], None],
        default: Json | None = None,
    ) -> Json:
        """Change a resource in place, alone; returns what it became.

        An exception from `change` leaves the resource as it was.

        Args:
            kind: of the resource.
            name: of the resource.
            change: changes the JSON object that it is given; it may not use this state.
            default: what to start from when there is no such resource.

        Raises:
            MissingError: there is no such resource, and no default.
        """
        with self._writing() as db:
            body = _get(db, kind, name) or default
            if body is None:
                raise MissingError(name)
            change(body)
            _put(db, kind, name, body)
            return body

    def delete(self, kind: Kind, name: str) -> bool:
        """Remove a resource; False if there was none."""
        with self._writing() as db:
            sql = "DELETE FROM resource WHERE kind = ? AND name = ?"
            return db.execute(sql, (kind, name)).rowcount > 0

    def write_content(self, bucket: str, name: str, data: bytes) -> None:
        """Add or replace the content of a bucket's object."""
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO content VALUES (?, ?, ?)", (bucket, name, data))

    def read_content(self, bucket: str, name: str) -> bytes:
        """The content of a bucket's object; empty if there is none."""
        with self._reading() as db:
            sql = "SELECT data FROM content WHERE bucket = ? AND name = ?"
            row = db.execute(sql, (bucket, name)).fetchone()
        return bytes(row[0]) if row else b""

    def delete_content(self, bucket: str, name: str) -> None:
        """Remove the content of a bucket's object."""
        with self._writing() as db:
            db.execute("DELETE FROM content WHERE bucket = ? AND name = ?", (bucket, name))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            yield self._db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def _get(db: sqlite3.Connection, kind: Kind, name: str) -> Json | None:
    sql = "SELECT body FROM resource WHERE kind = ? AND name = ?"
    row = db.execute(sql, (kind, name)).fetchone()
    if row is None:
        return None
    body: Json = json.loads(row[0])
    return body


def _put(db: sqlite3.Connection, kind: Kind, name: str, body: Json) -> None:
    db.execute("INSERT OR REPLACE INTO resource VALUES (?, ?, ?)", (kind, name, json.dumps(body)))
