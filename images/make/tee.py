"""One stream for several readers, each in its own thread: what it yields is made once."""

from collections.abc import Iterator
from queue import Full, Queue
from threading import Thread

_AHEAD = 4
"""Pieces that a reader may be ahead of the slowest."""
_POLL_SECONDS = 0.1
"""How soon a reader that left is noticed by one that waits for it."""


class Tee:
    """Hands every piece of a stream to readers 0 to `readers` - 1; it begins at once.

    A reader that is done or fails has to `leave`, since the others wait for it otherwise.
    """

    def __init__(self, pieces: Iterator[bytes], readers: int) -> None:
        self._queues: dict[int, Queue[bytes | Exception | None]] = {
            number: Queue(_AHEAD) for number in range(readers)
        }
        Thread(target=self._feed, args=(pieces,), name="tee", daemon=True).start()

    def read(self, reader: int) -> Iterator[bytes]:
        """Yield all pieces; what the stream raises is raised to every reader."""
        queue = self._queues[reader]
        while (item := queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def leave(self, reader: int) -> None:
        """Hold no pieces for a reader any more."""
        self._queues.pop(reader, None)

    def _feed(self, pieces: Iterator[bytes]) -> None:
        try:
            for piece in pieces:
                self._put(piece)
                if not self._queues:
                    return
            self._put(None)
        except Exception as error:  # noqa: BLE001 - every reader raises it
            self._put(error)

    def _put(self, item: bytes | Exception | None) -> None:
        for number, queue in list(self._queues.items()):
            while number in self._queues:
                try:
                    queue.put(item, timeout=_POLL_SECONDS)
                    break
                except Full:
                    continue
