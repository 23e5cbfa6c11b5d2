"""Writes a cluster's events to a log of its own, as the event exporter of every GKE cluster does.

It has nothing to do with the exporter that a study installs, and goes on when that one is down.
"""

import threading
from collections.abc import Callable

from rehearsal.cluster.admin import ClusterAdmin
from rehearsal.cluster.kubernetes import ClusterError, Object

_PAUSE_S = 0.5

WriteEvent = Callable[[Object | None], None]
"""Gets a core/v1 Event; None at the start, since earlier ones may be missing."""


class NativeEvents:
    """Follows the events of one cluster, in its own thread. The thread ends with the API server."""

    def __init__(self, admin: ClusterAdmin, write: WriteEvent) -> None:
        self._admin = admin
        self._write = write
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="native-events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write nothing more."""
        self._ending.set()

    def _follow(self) -> None:
        self._write(None)
        while not self._ending.is_set():
            try:
                for change, event in self._admin.changes("/api/v1/events"):
                    if self._ending.is_set():
                        return
                    if change != "DELETED":
                        self._write({"kind": "Event", "apiVersion": "v1", **event})
            except ClusterError:  # the API server is away
                self._ending.wait(_PAUSE_S)
