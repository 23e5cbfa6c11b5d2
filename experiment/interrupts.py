"""Ctrl-C, SIGTERM, a closed terminal: ordinary ways to end a run; none leaves a cluster behind."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP end the block with KeyboardInterrupt."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        _let_go_of_terminal(number)
        raise KeyboardInterrupt

    with _handlers(interrupt):
        yield


@contextmanager
def interrupts_wait(notify: Callable[[], None]) -> Iterator[None]:
    """Let none of them end the block; call `notify` for each."""

    def wait(number: int, _frame: FrameType | None) -> None:
        _let_go_of_terminal(number)
        notify()

    with _handlers(wait):
        yield


def _let_go_of_terminal(number: int) -> None:
    """A terminal that hung up accepts no more output: writing and reading would fail."""
    if number == signal.SIGHUP:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nowhere, standard)
        os.close(nowhere)


@contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the three signals, but for one that is ignored, as SIGHUP is under nohup."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    handled = {number: old for number, old in before.items() if old not in {signal.SIG_IGN, None}}
    try:
        for number in handled:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in handled.items():
            signal.signal(number, old)
