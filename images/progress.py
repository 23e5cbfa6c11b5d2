"""Shows progress in bytes: a bar with rate and time left, or plain lines without a terminal."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

OnBytes = Callable[[int], None]

_PLAIN_SECONDS = 5.0


@contextmanager
def show_bytes(console: Console, what: str, total: int) -> Iterator[OnBytes]:
    """Yield a callback to add processed bytes, from any thread.

    Args:
        console: a terminal shows a bar, anything else a line every 5 s.
        what: description of the work.
        total: bytes to process.
    """
    if console.is_terminal:
        with _bar(console, what, total) as add:
            yield add
    else:
        yield _Lines(console, what, total).add


@contextmanager
def _bar(console: Console, what: str, total: int) -> Iterator[OnBytes]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)


class _Lines:
    def __init__(self, console: Console, what: str, total: int) -> None:
        self._console = console
        self._what = what
        self._total = total
        self._done = 0
        self._began = self._last = time.monotonic()
        self._lock = threading.Lock()

    def add(self, done: int) -> None:
        with self._lock:
            self._done += done
            now = time.monotonic()
            if now - self._last < _PLAIN_SECONDS:
                return
            self._last = now
            rate = self._done / (now - self._began)
        left = (self._total - self._done) / rate
        self._console.print(
            f"{self._what}: {decimal(self._done)} of {decimal(self._total)}, "
            f"{decimal(int(rate))}/s, {left:.0f} s left",
            highlight=False,
            soft_wrap=True,
        )
