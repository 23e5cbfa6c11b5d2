"""An API server that is away: requests that fail, how long they are repeated, and what is said.

GKE resizes and upgrades a zonal control plane for minutes, in which nothing answers.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from experiment.errors import Failure, MeasureError
from experiment.waiting import Clock

PATIENCE_S = 360.0
"""How long requests and watches wait for an API server that is away, in seconds: five minutes,
and one to be reached again."""

AWAY = {0, 429, 500, 502, 503, 504}
"""Statuses after which a request is repeated; 0 stands for no answer."""
_SAID_AFTER_S = 5.0
_ADMISSION = ("exceeded quota", "being terminated", "violates PodSecurity", "denied the request")
"""In refusals of k8s.io/apiserver's admission plugins and of webhooks."""


class Refused(Exception):
    """A request that failed.

    Args:
        status: the server's HTTP status; 0 where there was no answer.
        reason: in the server's words.
        retried: it was sent more than once, so an earlier try may have had its effect.
        retry_after_s: how long the server asks to wait.
    """

    def __init__(
        self, status: int, reason: str, *, retried: bool = False, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retried = retried
        self.retry_after_s = retry_after_s

    def as_error(self) -> MeasureError:
        """Return the error to show to the user."""
        if not self.status:
            return MeasureError(
                f"The cluster's API server does not answer: {self.reason}.", "kubectl get nodes"
            )
        if self.status == HTTPStatus.UNAUTHORIZED:
            return MeasureError(
                f"The cluster's API server does not accept the login (401): {self.reason}.",
                "log in again; on GKE: gcloud auth application-default login",
                failure=Failure.PERMISSION,
            )
        return MeasureError(
            f"The cluster's API server refused a request ({self.status}): {self.reason}.",
            "kubectl auth can-i --list shows what you may do on this cluster; "
            "docs/existing-clusters.md has what a run needs",
            failure=Failure.PERMISSION if self._is_denied else None,
        )

    @property
    def _is_denied(self) -> bool:
        """Whether a right is missing; quotas and admission plugins answer 403 too."""
        admission = any(words in self.reason for words in _ADMISSION)
        return self.status == HTTPStatus.FORBIDDEN and not admission


class Outage:
    """What is said of an API server that is away: a line once it lasts, and one at its end."""

    def __init__(self, say: Callable[[str], None], clock: Clock) -> None:
        self.repeated: Counter[str] = Counter()
        self._say = say
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None
        self._said = False

    def count(self, refused: Refused) -> None:
        """Count a retry."""
        with self._lock:
            self.repeated[str(refused.status or "no answer")] += 1

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note how one request ends."""
        try:
            yield
        except Refused as refused:
            if refused.status in AWAY:
                self._is_away(refused)
            else:
                self._is_back()
            raise
        self._is_back()

    def _is_away(self, refused: Refused) -> None:
        with self._lock:
            at = self._clock.monotonic()
            self._since = at if self._since is None else self._since
            due = not self._said and at - self._since >= _SAID_AFTER_S
            self._said = self._said or due
        if due:
            status = f"{refused.status}: " if refused.status else ""
            self._say(
                f"The cluster's API server is away ({status}{refused.reason}); waiting for it, "
                f"{PATIENCE_S / 60:.0f} minutes at most."
            )

    def _is_back(self) -> None:
        if self._since is None:
            return
        with self._lock:
            since, said = self._since, self._said
            self._since, self._said = None, False
        if said and since is not None:
            self._say(f"The API server is back after {self._clock.monotonic() - since:.0f} s.")
