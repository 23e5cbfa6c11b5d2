"""Ctrl-C, SIGTERM, a closed terminal: ordinary ways to end a run; none leaves a cluster behind."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, with KeyboardInterrupt."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        _let_go_of_terminal(number)
        raise KeyboardInterrupt

    with _handlers({signal.SIGTERM: interrupt, signal.SIGHUP: interrupt}):
        yield


@contextmanager
def interrupts_wait(tell: Callable[[], None]) -> Iterator[None]:
    """Let none of them end the block; `tell` is called for each."""

    def wait(number: int, _frame: FrameType | None) -> None:
        _let_go_of_terminal(number)
        tell()

    with _handlers(dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), wait)):
        yield


def _let_go_of_terminal(number: int) -> None:
    """A terminal that hung up takes no output any more: writing to it would fail, reading too."""
    if number == signal.SIGHUP:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nowhere, standard)
        os.close(nowhere)


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
