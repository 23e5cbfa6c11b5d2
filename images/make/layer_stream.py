"""Streams a layer: content, tar, digest and compression in one pass.

A pool that all layers share compresses blocks, so one layer can use every core; digests are
computed in order. A layer has only a few blocks in memory.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from threading import Event, Lock

from images.make.base import Base
from images.make.compression import BLOCK, Compress
from images.make.layer_tar import gather, layer_tar
from images.make.plan import LayerPlan

OnBytes = Callable[[int], None]
"""Called with content bytes done since the last call; from several threads."""


class Cancelled(Exception):
    """Another layer failed, so this one is no longer needed."""


class LayerStream:
    """Makes one layer's compressed bytes; `pieces` may be called repeatedly, also at once.

    After `pieces` was read to its end, `diff_id` and `unpacked` describe the uncompressed tar.
    """

    def __init__(
        self,
        plan: LayerPlan,
        base: Base | None,
        compress: Compress,
        pool: Executor,
        *,
        ahead: int,
        on_bytes: OnBytes | None = None,
        cancelled: Event | None = None,
    ) -> None:
        """A layer.

        Args:
            plan: its content.
            base: its files precede the content, in the first layer.
            compress: makes a gzip member, zstd frame or copy of a block.
            pool: runs `compress`.
            ahead: blocks in the pool at a time.
            on_bytes: called with progress; bytes that are made again are reported once.
            cancelled: stops the stream when set.
        """
        self._plan = plan
        self._base = base
        self._compress = compress
        self._pool = pool
        self._ahead = ahead
        self._on_bytes = on_bytes
        self._cancelled = cancelled
        self._reported = 0
        self._lock = Lock()
        self.diff_id = ""
        self.unpacked = 0

    def pieces(self) -> Iterator[bytes]:
        """Yield the compressed layer, one piece per block of the tar.

        Raises:
            Cancelled: the event was set.
        """
        sha, made, done = hashlib.sha256(), 0, 0
        waiting: deque[tuple[int, Future[bytes]]] = deque()
        try:
            base = self._base.tar() if self._base else ()
            for block in gather(layer_tar(self._plan, base), BLOCK):
                waiting.append((len(block), self._pool.submit(self._compress, block)))
                sha.update(block)
                made += len(block)
                if len(waiting) > self._ahead:
                    length, future = waiting.popleft()
                    yield future.result()
                    done += length
                    self._report(done)
            for length, future in waiting:
                yield future.result()
                done += length
                self._report(done)
        finally:
            for _, future in waiting:
                future.cancel()
        self.diff_id = f"sha256:{sha.hexdigest()}"
        self.unpacked = made

    def finish_progress(self) -> None:
        """Report the rest of the layer's content as done."""
        self._report(self._plan.size)

    def _report(self, done: int) -> None:
        if self._cancelled is not None and self._cancelled.is_set():
            raise Cancelled
        with self._lock:
            more = min(done, self._plan.size) - self._reported
            self._reported += max(0, more)
        if self._on_bytes is not None and more > 0:
            self._on_bytes(more)
