"""Streams a layer: content, tar, digest and compression in one pass.

A pool that all layers share compresses blocks, so one layer can use every core; digests are
computed in order. A layer has only a few blocks in memory.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import chain, repeat
from threading import Event, Lock

from images.make.base import Base
from images.make.compression import BLOCK, Compress
from images.make.layer_tar import gather, layer_tar
from images.make.plan import LayerPlan

OnBytes = Callable[[int], None]
"""Called with content bytes done since the last call; from several threads."""


def ignore(_: int) -> None:
    """Ignore progress."""


class Cancelled(Exception):
    """Another layer failed, so this one is no longer needed."""


@dataclass(slots=True)
class LayerStream:
    """Makes one layer's compressed bytes; `pieces` may be called repeatedly, also at once.

    After `pieces` was read to its end, `diff_id` and `unpacked` describe the uncompressed tar.
    `ahead` blocks are in the pool at a time; bytes that are made again are reported once.
    """

    plan: LayerPlan
    base: Base | None
    compress: Compress
    pool: Executor
    ahead: int
    on_bytes: OnBytes
    cancelled: Event
    diff_id: str = ""
    unpacked: int = 0
    _reported: int = 0
    _lock: Lock = field(default_factory=Lock)

    def pieces(self) -> Iterator[bytes]:
        """Yield the compressed layer, one piece per block of the tar, until it is cancelled."""
        sha, made, done = hashlib.sha256(), 0, 0
        waiting: deque[tuple[int, Future[bytes]]] = deque()
        base = self.base.tar() if self.base else ()
        blocks = gather(layer_tar(self.plan, base), BLOCK)
        try:
            for block in chain(blocks, repeat(None)):
                if block is not None:
                    waiting.append((len(block), self.pool.submit(self.compress, block)))
                    sha.update(block)
                    made += len(block)
                elif not waiting:
                    break
                if len(waiting) > self.ahead or block is None:
                    length, future = waiting.popleft()
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
        self._report(self.plan.size)

    def _report(self, done: int) -> None:
        if self.cancelled.is_set():
            raise Cancelled
        with self._lock:
            more = max(0, min(done, self.plan.size) - self._reported)
            self._reported += more
        self.on_bytes(more)
