"""One comparison: the runner, then the loop, on one rehearsed cluster.

The runner is the command that a user starts, with its cluster kept; then the loop pulls copies of
the same images, with layers of their own, on that cluster. Both are seen by the same observer. The
API server keeps an audit log of the one user that both act as: a wrapper that comes first on PATH
adds it, so the rehearsal itself knows nothing of it.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean

import yaml

from benchmarks.overhead.loop import run_loop
from benchmarks.overhead.observer import Observer, Turn, gaps_s
from experiment.run_folder import RunFolder
from rehearsal.machine.home import HOME_VARIABLE, Home
from rehearsal.session import session
from schema.names import JOB_NAMESPACE
from schema.run_records import Phase, TrialRecord
from tools.programs import locate

IMAGES = 4
COMMAND = ("sleep", "1")
"""As in the original study."""

_REPOSITORY = "ghcr.io/converged-computing/container-chonks"
_SMALL, _LARGE = 48_702_097, 2_770_722_493
"""Of the original study's smallest image, and of the second of its run1, which keeps a node busy
for half a minute."""
_MANY_NODES = 256
"""From here on the large image: by default the Job controller needs 26 s for an image's pods, which
is hidden only behind an image that takes as long."""
_SCALE = 0.01
"""Of images for real nodes; simulated ones cost no disk."""
_LONGEST_S = 1800.0
_SETTLE_S = 3.0
"""For the last events, and what a controller still does for one side."""
_GONE_S = 300.0
_AUDITED_USER = "rehearsal-user"
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Setting:
    """What kind of cluster is measured."""

    nodes: int
    kind: str
    """real or simulated."""
    rate_limits: bool
    """Kubernetes' own client-side limits, as on a default cluster."""

    @property
    def scale(self) -> float:
        """Of the images."""
        return _SCALE if self.kind == "real" else 1.0

    def tags(self, salt: str) -> list[str]:
        """Of the images that one side pulls, which have no layer in common with the other's."""
        size = _LARGE if self.nodes >= _MANY_NODES else _SMALL
        return [f"9-layers-size-{size}-bytes-{salt}{number}" for number in range(1, IMAGES + 1)]

    def __str__(self) -> str:
        limits = "default limits" if self.rate_limits else "no limits"
        return f"{self.nodes} {self.kind} nodes, {limits}"


@dataclass(frozen=True, slots=True)
class Side:
    """What one of the two took, on average for an image unless it says otherwise."""

    wall_s: float
    """From an image's first bound pod to the next image's, by the observer."""
    slowest_pull_s: float
    longest_pod_s: float
    """From a pod's binding to its container's end, of the pod that took longest."""
    gaps_s: list[float]
    """Last container ended to first pod of the next image bound, by the observer."""
    own_requests: float
    """Made by the runner or by kubectl."""
    all_requests: float
    """Served by the API server to everybody meanwhile, nodes and controllers included."""
    cpu_s: float
    peak_mb: float
    """Resident memory of its largest process, not an average."""

    @property
    def overhead_s(self) -> float:
        """Wall time of an image less its slowest pull."""
        return self.wall_s - self.slowest_pull_s

    @property
    def added_s(self) -> float:
        """Wall time of an image less what its slowest pod took: what the measuring adds."""
        return self.wall_s - self.longest_pod_s

    @property
    def gap_s(self) -> float:
        """The largest."""
        return max(self.gaps_s)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides on one cluster."""

    setting: Setting
    runner: Side
    loop: Side
    last_bound_s: float
    """Of the runner: first gate opened to last pod bound, the largest, by its own clock."""


def compare(setting: Setting, place: Path) -> Comparison:
    """Bring a cluster up, run both, take it down.

    Args:
        setting: of the cluster.
        place: an empty folder.
    """
    kubectl = locate("kubectl").path
    audit = place / "audit.log"
    os.environ[HOME_VARIABLE] = str(place / "home")
    with (
        _audited(place, audit),
        session(setting.scale, nodes=setting.kind, rate_limits=setting.rate_limits),
    ):
        home = Home(place / "home")
        folder, runner, observer = _run_runner(setting, place, home, audit)
        try:
            _remove_jobs(kubectl, _admin(home))
            observer.await_no_pods(_GONE_S)
            time.sleep(_SETTLE_S)
            loop = _run_loop(setting, folder, observer, kubectl, audit)
        finally:
            observer.close()
    bound = [_seconds(trial) for trial in folder.trials()]
    return Comparison(setting, runner, loop, max(bound))


def _admin(home: Home) -> Path:
    """Kubeconfig of the one cluster's administrator, who is not the user that is audited."""
    return next(home.clusters.glob("*/admin.kubeconfig"))


def _remove_jobs(kubectl: Path, kubeconfig: Path) -> None:
    """A runner that keeps its cluster keeps its last Jobs too."""
    subprocess.run(
        [kubectl, "--kubeconfig", kubeconfig, "delete", "jobs", "--all", "-n", JOB_NAMESPACE],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _seconds(trial: TrialRecord) -> float:
    if trial.released_at is None or trial.all_bound_at is None:
        raise RuntimeError(f"trial {trial.trial} did not come to its end: {trial.error}")
    return (trial.all_bound_at - trial.released_at).total_seconds()


def _run_runner(
    setting: Setting, place: Path, home: Home, audit: Path
) -> tuple[RunFolder, Side, Observer]:
    study = place / "overhead.yaml"
    study.write_text(yaml.safe_dump(_study(setting)), encoding="utf-8")
    command = [sys.executable, "-m", "experiment", "run", "--stack", f"size-{setting.nodes}"]
    command += ["--study", str(study), "--rehearse", "--scale", str(setting.scale), "--yes"]
    command += ["--keep-cluster", "--run-id", "runner"]
    command += ["--nodes", setting.kind] if setting.kind != "real" else []
    command += ["--no-rate-limits"] if not setting.rate_limits else []
    folder = RunFolder(place / "data" / "runs" / "runner")
    with (place / "runner.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _await_phase(folder, Phase.PROVISION, process)
            observer = Observer(_admin(home))
            _await_phase(folder, Phase.PREPARE, process)
            begun, requests, cpu_s = time.time(), observer.requests_served(), _cpu_s(process.pid)
            with _peak_of(process.pid) as peaks:
                _await_phase(folder, Phase.MEASURE, process)
            requests = observer.requests_served() - requests
            cpu_s = _cpu_s(process.pid) - cpu_s
            code = process.wait(_LONGEST_S)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if code:
        raise RuntimeError(f"the runner ended with {code}: {(place / 'runner.log').read_text()}")
    measured = next(p for p in folder.phases() if p.phase is Phase.MEASURE)
    turns = observer.turns(begun - 1)
    span = (measured.started_at.timestamp(), measured.ended_at.timestamp())
    side = _side(
        turns,
        own=_audited_requests(audit, *span),
        requests=requests,
        cpu_s=cpu_s,
        peak_mb=max(peaks),
    )
    return folder, side, observer


def _run_loop(
    setting: Setting, folder: RunFolder, observer: Observer, kubectl: Path, audit: Path
) -> Side:
    outputs = folder.read_run().outputs
    if outputs is None:
        raise RuntimeError("the run's record has no outputs")
    kubeconfig = folder.path / "loop.kubeconfig"
    kubeconfig.write_text(outputs.kubeconfig, encoding="utf-8")
    images = [f"{_REPOSITORY}:{tag}" for tag in setting.tags("loop")]
    for image in images:  # the rehearsal's registry makes an image when it is looked up
        subprocess.run(
            ["skopeo", "inspect", "--raw", f"docker://{image}"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    requests = observer.requests_served()
    cost = run_loop(kubectl, kubeconfig, images, setting.nodes, COMMAND)
    requests = observer.requests_served() - requests
    time.sleep(_SETTLE_S)
    turns = observer.turns(cost.begun)
    return _side(
        turns,
        own=_audited_requests(audit, cost.begun, cost.ended),
        requests=requests,
        cpu_s=cost.cpu_s,
        peak_mb=cost.peak_mb,
    )


def _side(turns: list[Turn], *, own: int, requests: int, cpu_s: float, peak_mb: float) -> Side:
    if len(turns) != IMAGES:
        raise RuntimeError(f"the observer saw {len(turns)} Jobs and not {IMAGES}")
    begun = [min(turn.bound.values()) for turn in turns]
    return Side(
        wall_s=(begun[-1] - begun[0]) / (IMAGES - 1),
        slowest_pull_s=fmean(turn.slowest_pull_s for turn in turns[:-1]),
        longest_pod_s=fmean(turn.longest_pod_s for turn in turns[:-1]),
        gaps_s=gaps_s(turns),
        own_requests=own / IMAGES,
        all_requests=requests / IMAGES,
        cpu_s=cpu_s / IMAGES,
        peak_mb=peak_mb,
    )


def _study(setting: Setting) -> dict[str, object]:
    return {
        "name": "overhead",
        "images": [{"repository": _REPOSITORY, "tags": setting.tags("runner")}],
        "command": list(COMMAND),
    }


@contextmanager
def _audited(place: Path, log: Path) -> Iterator[None]:
    """Let the rehearsal find an API server that logs each request of one user."""
    rules = [
        {"level": "Metadata", "users": [_AUDITED_USER], "omitStages": ["RequestReceived"]},
        {"level": "None"},
    ]
    policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}
    (place / "audit.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    folder = place / "path"
    folder.mkdir()
    real = locate("kube-apiserver").path
    options = f"--audit-policy-file={place / 'audit.yaml'} --audit-log-path={log}"
    wrapper = folder / "kube-apiserver"
    wrapper.write_text(f'#!/bin/sh\nexec "{real}" "$@" {options}\n', encoding="utf-8")
    wrapper.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before
        shutil.rmtree(folder)


def _audited_requests(log: Path, begun: float, ended: float) -> int:
    """Requests that the user made within a span; a watch counts once, when it began."""
    identities = set()
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        at = datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp()
        if begun <= at <= ended:
            identities.add(entry["auditID"])
    return len(identities)


def _await_phase(folder: RunFolder, phase: Phase, process: "subprocess.Popen[bytes]") -> None:
    """Until the phase has ended, told by the run's own record of it."""
    deadline = time.monotonic() + _LONGEST_S
    while not ((folder.path / "phases.jsonl").exists() and _has(folder, phase)):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the runner did not end its phase {phase}: see {folder.path}")
        time.sleep(0.05)


def _has(folder: RunFolder, phase: Phase) -> bool:
    return any(record.phase is phase for record in folder.phases())


@contextmanager
def _peak_of(pid: int) -> Iterator[list[float]]:
    """Sample a process's resident memory, in MB, while the block runs."""
    peaks = [_resident_mb(pid)]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.1):
            peaks.append(_resident_mb(pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peaks
    finally:
        done.set()
        sampler.join()


def _resident_mb(pid: int) -> float:
    return int(Path("/proc", str(pid), "statm").read_text("ascii").split()[1]) * _PAGE_MB


def _cpu_s(pid: int) -> float:
    """User and system time of the process alone."""
    fields = Path("/proc", str(pid), "stat").read_text("ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
