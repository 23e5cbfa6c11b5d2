"""Shows progress in bytes: a bar with rate and time left, or a line every 5 s elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from images.make.layer_stream import OnBytes

_PLAIN_SECONDS = 5.0


@contextmanager
def show_bytes(console: Console, what: str, total: int) -> Iterator[OnBytes]:
    """Yield a callback to add processed bytes, from any thread."""
    if not console.is_terminal:
        yield _lines(console, what, total)
        return
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)


def _lines(console: Console, what: str, total: int) -> OnBytes:
    began = last = time.monotonic()
    done = 0
    lock = threading.Lock()

    def add(more: int) -> None:
        nonlocal done, last
        with lock:
            done += more
            now = time.monotonic()
            if now - last < _PLAIN_SECONDS:
                return
            last = now
            rate = max(done, 1) / (now - began)
            left = f"{decimal(int(rate))}/s, {(total - done) / rate:.0f} s left"
            line = f"{what}: {decimal(done)} of {decimal(total)}, {left}"
        console.print(line, highlight=False, soft_wrap=True)

    return add
