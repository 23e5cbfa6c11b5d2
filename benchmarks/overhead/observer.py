"""An observer of a cluster's Jobs that takes no part: the same eyes for the runner and the loop.

It follows the Jobs' pods and the events about them as the cluster's administrator, on connections
of its own, and stamps what it sees with its own clock. It asks the API server's metrics for the
requests served, and knows nothing of who made the Jobs.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import requests
import yaml

from analysis.read.pull_message import parse_pulled

_JOBS = "batch.kubernetes.io/job-name"
_CONTROLLER = "batch.kubernetes.io/controller-uid"
_TIMEOUT_S = 15.0
_SERVED = re.compile(r"^apiserver_request_total\{.*\} (\S+)$", re.MULTILINE)


@dataclass(slots=True)
class Turn:
    """One Job, as it was seen; times in seconds of the epoch."""

    job: str
    first_seen: float
    bound: dict[str, float] = field(default_factory=dict)
    """By pod: when it was first seen bound to a node."""
    ended: dict[str, float] = field(default_factory=dict)
    """By pod: when its container was first seen ended."""
    nodes: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, float] = field(default_factory=dict)
    """By pod: seconds of its pull with waiting, by the kubelet's message."""

    @property
    def slowest_pull_s(self) -> float:
        """Of those that pulled; 0 if none did."""
        return max(self.pulls.values(), default=0.0)

    @property
    def longest_pod_s(self) -> float:
        """From binding to the container's end, of the pod that took longest."""
        return max((end - self.bound[uid] for uid, end in self.ended.items()), default=0.0)


class Observer:
    """Follows a cluster from now until closed.

    Args:
        kubeconfig: of an administrator with a client certificate, as files.
    """

    def __init__(self, kubeconfig: Path) -> None:
        loaded = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        cluster, user = loaded["clusters"][0]["cluster"], loaded["users"][0]["user"]
        self._url = cluster["server"]
        self._verify = cluster["certificate-authority"]
        self._cert = (user["client-certificate"], user["client-key"])
        self._guard = threading.Lock()
        self._turns: dict[str, Turn] = {}
        self._turn_of: dict[str, str] = {}
        self._sessions: list[requests.Session] = []
        self._closing = False
        self._threads = [
            threading.Thread(target=self._follow, args=(path, selector, handle), daemon=True)
            for path, selector, handle in (
                ("/api/v1/pods", {"labelSelector": _JOBS}, self._see_pod),
                ("/api/v1/events", {"fieldSelector": "reason=Pulled"}, self._see_event),
            )
        ]
        for thread in self._threads:
            thread.start()

    def turns(self, since: float) -> list[Turn]:
        """The Jobs first seen since then, by the time of their first bound pod."""
        with self._guard:
            found = [t for t in self._turns.values() if t.first_seen >= since and t.bound]
        return sorted(found, key=lambda turn: min(turn.bound.values()))

    def requests_served(self) -> int:
        """Requests that the API server has served so far, of everybody, watches once each."""
        with self._session() as session:
            answer = session.get(f"{self._url}/metrics", timeout=_TIMEOUT_S)
        answer.raise_for_status()
        return round(sum(float(value) for value in _SERVED.findall(answer.text)))

    def await_no_pods(self, timeout_s: float) -> None:
        """Wait until no Job has a pod left, so that one side's removal is not the other's burden.

        Raises:
            TimeoutError: some are left.
        """
        deadline = time.monotonic() + timeout_s
        params = {"labelSelector": _JOBS, "limit": "1"}
        with self._session() as session:
            while session.get(f"{self._url}/api/v1/pods", params=params, timeout=_TIMEOUT_S).json()[
                "items"
            ]:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"pods of Jobs are left after {timeout_s:.0f} s")
                time.sleep(0.5)

    def close(self) -> None:
        """Stop following."""
        self._closing = True
        for session in self._sessions:
            session.close()

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.verify, session.cert = self._verify, self._cert
        return session

    def _follow(self, path: str, selector: dict[str, str], handle: Any) -> None:
        session = self._session()
        self._sessions.append(session)
        while not self._closing:
            with suppress(requests.RequestException, KeyError, json.JSONDecodeError):
                for item in self._changes(session, path, selector):
                    handle(time.time(), item)
            time.sleep(0.05)

    def _changes(
        self, session: requests.Session, path: str, selector: dict[str, str]
    ) -> Iterator[dict[str, Any]]:
        listed = session.get(self._url + path, params=selector, timeout=_TIMEOUT_S).json()
        yield from listed["items"]
        params = selector | {
            "watch": "true",
            "resourceVersion": listed["metadata"]["resourceVersion"],
        }
        with session.get(self._url + path, params=params, stream=True, timeout=None) as answer:
            for line in answer.iter_lines(chunk_size=None):
                yield json.loads(line)["object"]

    def _see_pod(self, at: float, pod: dict[str, Any]) -> None:
        uid, labels = pod["metadata"]["uid"], pod["metadata"]["labels"]
        statuses = pod.get("status", {}).get("containerStatuses") or [{}]
        with self._guard:
            job = labels[_CONTROLLER]
            turn = self._turns.setdefault(job, Turn(labels[_JOBS], at))
            self._turn_of[uid] = job
            if node := pod["spec"].get("nodeName"):
                turn.bound.setdefault(uid, at)
                turn.nodes[uid] = node
            if "terminated" in statuses[0].get("state", {}):
                turn.ended.setdefault(uid, at)

    def _see_event(self, _at: float, event: dict[str, Any]) -> None:
        pull = parse_pulled(event.get("message", ""))
        uid = event["involvedObject"].get("uid", "")
        with self._guard:
            turn = self._turns.get(self._turn_of.get(uid, ""))
            if turn and pull and pull.pull_and_wait_s is not None:
                turn.pulls[uid] = pull.pull_and_wait_s


def gaps_s(turns: list[Turn]) -> list[float]:
    """From each Job's last ended container to the first bound pod of the next Job."""
    return [
        min(after.bound.values()) - max(before.ended.values())
        for before, after in pairwise(turns)
        if before.ended
    ]
