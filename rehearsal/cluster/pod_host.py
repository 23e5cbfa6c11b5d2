"""Runs a program for each pod of the system that Kubernetes put on a node without a kubelet.

The program is a process of this machine. Its arguments, configuration and service account are those
of the pod: what the Pulumi program declared is what is rehearsed, a missing right included. What
differs from a container: paths in the arguments point to the volumes' real folders, and the API
server is named by a kubeconfig. Every line that it prints goes to the fake Cloud Logging. Which
programs there are: rehearsal.cluster.exporter, rehearsal.cluster.flux_operator.
"""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from rehearsal.cluster.admin import ClusterAdmin
from rehearsal.cluster.control_plane import LocalControlPlane, kubeconfig
from rehearsal.cluster.fleet import ClusterKey, LogLine, WriteLog
from rehearsal.cluster.kubernetes import ClusterError, Object
from rehearsal.machine import processes
from tools.programs import MissingProgram

_LONGEST_BACK_OFF_S = 300.0
"""As with kubelet."""
_STEADY_S = 600.0
"""A process that ran this long starts again without back-off, as with kubelet."""
_STOP_S = 3.0
_LONGEST_DOWN_S = 86_400.0
_NOT_IMITATED = {"command", "env", "envFrom"}
"""Fields of a container that the Pulumi program does not set."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a program is started with."""

    plane: LocalControlPlane
    folder: Path
    """For files of its own."""
    arguments: Sequence[str]
    """Of the container, with local paths."""
    kubeconfig: Path | None
    """Names the API server and the file of the token; None for a pod without a token."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs for a pod."""

    name: str
    """As messages have it."""
    image: str
    """End of the repository's name by which a container is recognized."""
    command: Callable[[Start], Sequence[str | Path]]
    configure: Callable[[str], str] = lambda text: text
    """May change a file of the pod's ConfigMaps."""


@dataclass(frozen=True, slots=True)
class PodSite:
    """What the pods of a cluster share."""

    key: ClusterKey
    plane: LocalControlPlane
    admin: ClusterAdmin
    write_log: WriteLog
    """Gets what the programs print."""
    say: Callable[[str], None]
    """Gets a line for each step."""
    programs: tuple[Program, ...]
    first_back_off_s: float = 10.0
    """Wait after a first crash, doubled at each further one; kubelet's."""


class PodHost:
    """Keeps one process for each pod of a cluster that has a program."""

    def __init__(self, site: PodSite) -> None:
        self._site = site
        self._ending = threading.Event()
        self._guard = threading.Lock()
        self._pods: dict[str, _HostedPod] = {}
        self._thread = threading.Thread(target=self._follow, name="pod-host", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End all programs. The thread ends with the API server."""
        self._ending.set()
        with self._guard:
            for pod in self._pods.values():
                pod.stop()

    def kill(self, name: str, down_s: float = 0.0) -> int:
        """Kill the processes of a program as a crash would; return how many there were.

        They are down for so many seconds at least.
        """
        with self._guard:
            return sum(pod.kill(down_s) for pod in self._pods.values() if pod.program.name == name)

    def renew(self, name: str) -> None:
        """Replace the pods of a program, as a rollout of a changed configuration does."""
        with self._guard:
            for uid, old in list(self._pods.items()):
                if old.program.name == name:
                    old.stop()
                    self._pods[uid] = _HostedPod(self._site, old.pod, old.program)

    def _follow(self) -> None:
        while not self._ending.is_set():
            try:
                for pods in self._site.admin.pods_in_motion():
                    with self._guard:
                        if self._ending.is_set():
                            return
                        self._reconcile(pods)
            except ClusterError:
                self._ending.wait(1)

    def _reconcile(self, pods: list[Object]) -> None:
        current = {
            pod["metadata"]["uid"]: (pod, program)
            for program in self._site.programs
            for pod in pods
            if container_of(pod, program)
        }
        for uid in set(self._pods) - set(current):
            self._pods.pop(uid).stop()
        for uid in set(current) - set(self._pods):
            pod, program = current[uid]
            if pod["spec"]["nodeName"] in self._site.admin.virtual_nodes():
                self._pods[uid] = _HostedPod(self._site, pod, program)


class _HostedPod:
    """The process of one pod: started, restarted after a crash, ended with the pod."""

    def __init__(self, site: PodSite, pod: Object, program: Program) -> None:
        self._site = site
        self.pod = pod
        self.program = program
        self._container = container_of(pod, program) or {}
        self._name = f"{program.name} {pod['metadata']['namespace']}/{pod['metadata']['name']}"
        self._folder = site.plane.folder / "pods" / pod["metadata"]["uid"]
        self._ending = threading.Event()
        self._restarts = 0
        self._down_until = 0.0
        self._thread = threading.Thread(target=self._supervise, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the process as the end of its pod does, and remove its files."""
        self._ending.set()
        self._thread.join(_STOP_S + 1)
        processes.stop(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self, down_s: float) -> int:
        """Kill the process as a crash would; it is restarted. Return how many there were."""
        self._down_until = time.monotonic() + min(down_s, _LONGEST_DOWN_S)
        return sum(
            processes.send(pid, self._folder, signal.SIGKILL)
            for pid in processes.running(self._folder)
        )

    def _supervise(self) -> None:
        while not self._ending.is_set():
            start = datetime.now(UTC)
            reason = self._run_once()
            if self._ending.is_set():
                return
            if (datetime.now(UTC) - start).total_seconds() > _STEADY_S:
                self._restarts = 0
            wait_s = min(self._site.first_back_off_s * 2**self._restarts, _LONGEST_BACK_OFF_S)
            self._restarts += 1
            wait_s = max(wait_s, self._down_until - time.monotonic())
            self._site.say(f"{self._name}: {reason}; it starts again in {wait_s:.0f} s")
            self._set_status({"waiting": {"reason": "CrashLoopBackOff", "message": reason}})
            self._ending.wait(wait_s)

    def _run_once(self) -> str:
        try:
            process, renew_at = self._start()
        except (ClusterError, MissingProgram) as error:
            return f"it could not start: {error}"
        readers = [
            threading.Thread(target=self._forward, args=(pipe, stream), daemon=True)
            for pipe, stream in ((process.stdout, "stdout"), (process.stderr, "stderr"))
        ]
        for reader in readers:
            reader.start()
        if self._restarts:
            self._set_status({"running": {"startedAt": datetime.now(UTC).isoformat()}})
        while process.poll() is None and not self._ending.wait(0.1):
            if datetime.now(UTC) > renew_at:
                renew_at = self._renew(renew_at)
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
        for reader in readers:
            reader.join(1)
        return f"it ended with code {process.wait()}"

    def _start(self) -> tuple["subprocess.Popen[bytes]", datetime]:
        if more := _NOT_IMITATED & self._container.keys():
            raise ClusterError(f"a rehearsal does not imitate {', '.join(more)} of its container")
        self._folder.mkdir(parents=True, exist_ok=True)
        mounts, has_token = self._volumes()
        arguments = [map_path(mounts, argument) for argument in self._container.get("args", ())]
        renew_at = datetime.max.replace(tzinfo=UTC)
        if has_token:
            renew_at = self._renew(renew_at)
        login = self._write_kubeconfig() if has_token else None
        start = Start(self._site.plane, self._folder, arguments, login)
        process = processes.start(
            self.program.command(start), self._folder, environment={"PATH": os.defpath}
        )
        self._site.say(f"{self._name}: running")
        return process, renew_at

    def _volumes(self) -> tuple[dict[str, Path], bool]:
        """Return local folders by mount path, and whether one holds the service account's token."""
        volumes = {volume["name"]: volume for volume in self.pod["spec"].get("volumes", ())}
        mounts: dict[str, Path] = {}
        has_token = False
        for number, mount in enumerate(self._container.get("volumeMounts", ())):
            volume = volumes[mount["name"]]
            folder = self._folder / f"volume-{number}"
            folder.mkdir(exist_ok=True)
            mounts[mount["mountPath"]] = folder
            if "configMap" in volume:
                self._write_config_map(volume["configMap"], folder)
            sources = volume.get("projected", {}).get("sources", ())
            has_token |= any("serviceAccountToken" in source for source in sources)
        return mounts, has_token

    def _write_config_map(self, volume: Object, folder: Path) -> None:
        data = self._site.admin.config_map(self.pod["metadata"]["namespace"], volume["name"])
        for key, text in data.items():
            (folder / key).write_text(self.program.configure(text), encoding="utf-8")

    def _renew(self, before: datetime) -> datetime:
        """Write a token, which the process rereads by itself; return when the next one is due."""
        now = datetime.now(UTC)
        try:
            minted = self._site.admin.service_account_token(self.pod)
        except ClusterError:
            if before == datetime.max.replace(tzinfo=UTC):
                raise
            return now + timedelta(seconds=10)
        scratch = self._folder / "token.new"
        scratch.touch(mode=0o600)
        scratch.write_text(minted.token, encoding="ascii")
        scratch.replace(self._folder / "token")
        return now + (minted.expires_at - now) * 0.8  # kubelet's share

    def _write_kubeconfig(self) -> Path:
        plane, path = self._site.plane, Path(self._folder / "kubeconfig")
        user = {"tokenFile": str(self._folder / "token")}
        content = kubeconfig(f"https://{plane.public.endpoint}", str(plane.authority), user)
        path.write_text(content, encoding="utf-8")
        return path

    def _forward(self, pipe: IO[bytes], stream: str) -> None:
        with pipe:
            for line in pipe:
                self._site.write_log(
                    LogLine(
                        cluster=self._site.key,
                        namespace_name=self.pod["metadata"]["namespace"],
                        pod_name=self.pod["metadata"]["name"],
                        container_name=self._container["name"],
                        stream=stream,
                        text=line.decode("utf-8", errors="replace").rstrip("\n"),
                        at=datetime.now(UTC),
                    )
                )

    def _set_status(self, state: Object) -> None:
        """Set the pod's status, which kwok would report as running."""
        ready = "running" in state
        status = {
            "name": self._container["name"],
            "image": self._container["image"],
            "imageID": "",
            "ready": ready,
            "restartCount": self._restarts,
            "state": state,
        }
        try:
            self._site.admin.set_container_status(self.pod, [status], ready=ready)
        except ClusterError as error:
            self._site.say(f"{self._name}: {error}")


def container_of(pod: Object, program: Program) -> Object | None:
    """Return the program's container of a pod that is bound and not being deleted."""
    if "deletionTimestamp" in pod["metadata"] or not pod["spec"].get("nodeName"):
        return None
    containers: list[Object] = pod["spec"]["containers"]
    return next((each for each in containers if _repository(each).endswith(program.image)), None)


def _repository(container: Object) -> str:
    return re.sub(r"(:[^:/]*)?(@.*)?$", "", container["image"])


def map_path(mounts: dict[str, Path], argument: str) -> str:
    """Return an argument such as `-conf=/data/config.yaml` with its path in a volume's folder."""
    match = re.fullmatch(r"(?P<option>-{1,2}[\w-]+=)?(?P<path>/.*)", argument)
    if match is None:
        return argument
    path = Path(match["path"])
    for mount in sorted(mounts, key=len, reverse=True):
        if path.is_relative_to(mount):
            return f"{match['option'] or ''}{mounts[mount] / path.relative_to(mount)}"
    return argument
