"""Who measures on a cluster: a Lease in the namespace of the trials' Jobs.

Two runs on one cluster would disturb each other's pulls and delete each other's Jobs. So a run
takes the Lease before it changes anything, renews it while it measures, and leaves a cluster alone
whose Lease another run holds. A Lease is free when its run has ended: it is gone or has no holder;
its run's folder on this machine is not in use; or it has expired, and is not renewed while it is
watched, since clocks of two machines may differ.
"""

import getpass
import os
import platform
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from experiment.errors import MeasureError, OwnershipError
from experiment.kube import Kube, Obj
from experiment.run_folder import RunFolder
from experiment.terminal.progress import Say, silent
from experiment.waiting import Clock, now, wait_until
from schema.errors import UserError
from schema.names import JOB_NAMESPACE, PROJECT_LABEL

NAME = "runner"
MADE_LABEL = "app.kubernetes.io/managed-by"
"""On a namespace that a run created, so that it deletes this one alone."""
NAMESPACE_LABELS = {
    MADE_LABEL: PROJECT_LABEL,
    # the pods that remove images are privileged
    "pod-security.kubernetes.io/enforce": "privileged",
}
DURATION_S = 60
RENEW_S = 10.0
_WATCH_S = 2.5 * RENEW_S
_NAMESPACE_S = 120
_CLOSE_S = 5.0
_TRIES = 5
_RUN, _FOLDER, _MACHINE = (f"pull-study/{name}" for name in ("run", "folder", "machine"))


@dataclass(frozen=True, slots=True)
class Holder:
    """The run that measures."""

    run_id: str
    folder: str
    """Its absolute path: the run's lock is there."""
    machine: str
    """Where the path is, until the machine boots again."""
    who: str
    """user@host, for people."""

    @classmethod
    def of(cls, folder: Path) -> "Holder":
        """Return the run of a folder, on this machine."""
        return cls(folder.name, str(folder.absolute()), _machine(), f"{_user()}@{platform.node()}")


class ClusterLease:
    """A run's claim on a cluster.

    Args:
        kube: the cluster.
        holder: the run.
        say: shows what is waited for.
        clock: measures it.

    Raises:
        OwnershipError: from `acquire`, when another run measures on the cluster.
        MeasureError: from every method, when the API server refuses or cannot be reached.
    """

    def __init__(self, kube: Kube, holder: Holder, say: Say = silent, clock: Clock = time) -> None:
        self._kube = kube
        self.holder = holder
        self._say = say
        self._clock = clock
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._lost: UserError | None = None

    def acquire(self) -> None:
        """Take the Lease, or renew it."""
        for _ in range(_TRIES):
            found = self._kube.lease(JOB_NAMESPACE, NAME)
            if found is None:
                if self._kube.create_lease(self._body({})):
                    return
            elif not self._is_free(found):
                raise self._in_use(found)
            elif self._kube.replace_lease(self._body(found)):
                return
        raise MeasureError(
            f"The Lease {NAME} of the namespace {JOB_NAMESPACE} changes faster than it can be "
            "taken: several runs start at once.",
            f"kubectl -n {JOB_NAMESPACE} get lease {NAME} -o yaml",
        )

    def require_free(self) -> None:
        """Raise OwnershipError if another run holds the Lease now; change nothing."""
        found = self._kube.lease(JOB_NAMESPACE, NAME)
        if found and not (self._ended(found) or _age_s(found) > _duration_s(found)):
            raise self._in_use(found)

    def keep(self) -> None:
        """Renew the Lease in the background until it is closed."""
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise MeasureError if another run has taken the Lease meanwhile."""
        if self._lost:
            raise MeasureError(
                f"{self._lost.problem} This run was not heard of for more than {DURATION_S} s.",
                self._lost.fix,
            ) from self._lost

    def close(self) -> None:
        """Stop renewing; a renewal that is under way ends first, so that none follows a release."""
        self._closing.set()
        if self._thread:
            self._thread.join(_CLOSE_S)

    def release(self) -> None:
        """Delete the Lease, unless another run has it."""
        self.close()
        found = self._kube.lease(JOB_NAMESPACE, NAME)
        if found and self._is_own(found):
            self._kube.delete_lease(JOB_NAMESPACE, NAME)

    def _renew(self) -> None:
        while not self._closing.wait(RENEW_S):
            try:
                self.acquire()
            except OwnershipError as error:
                self._lost = error
                return
            except UserError:  # the API server is away: the trials say so if that lasts
                continue

    def _is_free(self, lease: Obj) -> bool:
        if self._ended(lease):
            return True
        if _age_s(lease) <= _duration_s(lease):
            return False
        self._say(f"watching whether {_named(lease)} still measures on this cluster")
        version = lease["metadata"]["resourceVersion"]

        def renewed() -> bool:
            found = self._kube.lease(JOB_NAMESPACE, NAME)
            return found is not None and found["metadata"]["resourceVersion"] != version

        return not wait_until(renewed, _WATCH_S, RENEW_S / 4, self._clock)

    def _ended(self, lease: Obj) -> bool:
        """Whether a Lease is this run's, or its run is known to have ended."""
        if self._is_own(lease) or not lease["spec"].get("holderIdentity"):
            return True
        notes = lease["metadata"].get("annotations") or {}
        here = notes.get(_MACHINE) == self.holder.machine
        return here and RunFolder(Path(notes.get(_FOLDER, ""))).is_idle()

    def _is_own(self, lease: Obj) -> bool:
        notes = lease["metadata"].get("annotations") or {}
        own = (self.holder.folder, self.holder.machine)
        return (notes.get(_FOLDER), notes.get(_MACHINE)) == own

    def _in_use(self, lease: Obj) -> OwnershipError:
        left = max(0.0, _duration_s(lease) - _age_s(lease))
        return OwnershipError(
            f"{_named(lease)} measures on this cluster, and two runs would disturb each other's "
            "pulls.",
            "wait until it ends, then repeat the command; if it was killed, its Lease expires in "
            f"{left:.0f} s: kubectl -n {JOB_NAMESPACE} get lease {NAME} -o yaml",
        )

    def _body(self, before: Obj) -> Obj:
        at = now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        kept = before.get("spec") or {}
        own = bool(before) and self._is_own(before)
        metadata: Obj = {
            "name": NAME,
            "namespace": JOB_NAMESPACE,
            "annotations": {
                _RUN: self.holder.run_id,
                _FOLDER: self.holder.folder,
                _MACHINE: self.holder.machine,
            },
        }
        if before:  # so that of two that replace it one is refused
            metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": f"{self.holder.who}, run {self.holder.run_id}",
                "leaseDurationSeconds": DURATION_S,
                "acquireTime": kept.get("acquireTime", at) if own else at,
                "renewTime": at,
                "leaseTransitions": int(kept.get("leaseTransitions") or 0)
                + bool(before and not own),
            },
        }


def ensure_namespace(kube: Kube, clock: Clock = time) -> None:
    """Create the namespace of the Jobs unless it exists; wait while an earlier one is deleted.

    Raises:
        MeasureError: it stays, or the API server refuses.
    """

    def exists() -> bool:
        found = kube.namespace(JOB_NAMESPACE)
        if found is None:
            kube.create_namespace(JOB_NAMESPACE, NAMESPACE_LABELS)
            return True
        return (found.get("status") or {}).get("phase") != "Terminating"

    if not wait_until(exists, _NAMESPACE_S, 0.5, clock):
        raise MeasureError(
            f"The namespace {JOB_NAMESPACE} of an earlier run is still being deleted after "
            f"{_NAMESPACE_S} s.",
            f"kubectl get namespace {JOB_NAMESPACE} -o yaml shows what it waits for",
        )


def _named(lease: Obj) -> str:
    return f"Another run ({lease['spec'].get('holderIdentity')})"


def _duration_s(lease: Obj) -> float:
    return float(lease["spec"].get("leaseDurationSeconds") or DURATION_S)


def _age_s(lease: Obj) -> float:
    """Seconds since the last renewal, by this machine's clock."""
    at = lease["spec"].get("renewTime")
    since = datetime.fromisoformat(at) if at else datetime.fromtimestamp(0, UTC)
    return (now() - since) / timedelta(seconds=1)


def _machine() -> str:
    """Return what no other machine has, and this one no longer after a boot (random(4))."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:  # not Linux
        return f"{platform.node()}-{uuid.getnode():x}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return str(os.getuid())
