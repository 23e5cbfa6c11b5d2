"""Cloud Logging's entries: appended to a file, kept in memory in the order of their times.

Safe for threads, of one process alone. A line that a killed process left half written is dropped
when the file is read again; every whole line is kept.
"""

import bisect
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rehearsal.cloud_logging.entries import Entry, Json, Key, entry_of_line, format_time
from rehearsal.cluster.fleet import LogLine


class LogStore:
    """The entries of all logs.

    Args:
        path: the file, a JSON entry a line; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._entries = sorted(_read(path), key=lambda entry: entry.key)
        self._keys = [entry.key for entry in self._entries]
        self._count = len(self._entries)
        self._file = path.open("a", encoding="utf-8")

    def append(self, line: LogLine) -> None:
        """Keep a line that a container printed."""
        self.append_entry(entry_of_line(line))

    def append_entry(self, entry: Json) -> Entry:
        """Keep an entry of any log; returns it as it is kept.

        Args:
            entry: JSON of a LogEntry with a logName. It gets receiveTimestamp, and where they are
                missing timestamp and an insertId that sorts after all that the store gave before.
                One with log name, time and insertId of another is its duplicate and not kept twice.
        """
        received = format_time(datetime.now(UTC))
        with self._lock:
            self._count += 1
            data = {
                "timestamp": received,
                "insertId": f"{self._count:016x}",
                **entry,
                "receiveTimestamp": received,
            }
            kept = Entry(data)
            at = bisect.bisect_left(self._keys, kept.key)
            if self._keys[at : at + 1] == [kept.key]:
                return self._entries[at]
            self._file.write(json.dumps(data) + "\n")
            self._file.flush()
            self._keys.insert(at, kept.key)
            self._entries.insert(at, kept)
        return kept

    def entries(self, *, newest_first: bool = False, after: Key | None = None) -> Iterator[Entry]:
        """The entries as they are now, oldest first by default.

        Args:
            newest_first: the other way round.
            after: only those that follow this key in that order.
        """
        with self._lock:
            if newest_first:
                end = len(self._keys) if after is None else bisect.bisect_left(self._keys, after)
                chosen = self._entries[:end][::-1]
            else:
                start = 0 if after is None else bisect.bisect_right(self._keys, after)
                chosen = self._entries[start:]
        yield from chosen

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


def _read(path: Path) -> Iterator[Entry]:
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = 0
        for line in file:
            if not line.endswith(b"\n"):
                file.truncate(end)
                return
            end += len(line)
            yield Entry(json.loads(line))
