"""Ctrl-C and SIGTERM: an ordinary way to end a run, and no way to leave a cluster behind."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, with KeyboardInterrupt."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handlers({signal.SIGTERM: interrupt}):
        yield


@contextmanager
def interrupts_wait(tell: Callable[[], None]) -> Iterator[None]:
    """Let neither Ctrl-C nor SIGTERM end the block; `tell` is called for each."""

    def wait(_signal: int, _frame: FrameType | None) -> None:
        tell()

    with _handlers({signal.SIGINT: wait, signal.SIGTERM: wait}):
        yield


@contextmanager
def _handlers(handlers: dict[int, Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
