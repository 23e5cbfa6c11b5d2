"""An asyncio loop in a thread of its own, for callers that are not asynchronous."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

_STOP_S = 10.0
T = TypeVar("T")


class LoopThread:
    """Runs until stopped; with `threads`, calls that block have this many threads."""

    def __init__(self, name: str, threads: int | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        if threads:
            self.loop.set_default_executor(ThreadPoolExecutor(threads, name))
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = _STOP_S) -> T:
        """Run a coroutine in the loop and return its result.

        Raises concurrent.futures.CancelledError if the loop is stopped, and TimeoutError.
        """
        try:
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError as error:  # the loop is closed
            work.close()
            raise CancelledError from error
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise

    def call(self, action: Callable[..., object], *values: object) -> None:
        """Call a function in the loop soon; do nothing if the loop is stopped."""
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(action, *values)

    def stop(self) -> None:
        """Cancel what runs, and end the thread. Idempotent."""
        self.call(self.loop.stop)
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        self.loop.run_forever()
        self.loop.run_until_complete(_end())
        self.loop.close()


async def _end() -> None:
    """End the loop's other tasks and its asynchronous generators."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
