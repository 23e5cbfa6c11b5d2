"""What the kubelet of one simulated node does for the pods of Jobs that are bound to it.

It says and writes what a kubelet would, at the instants that the model of pulls gives; no byte is
pulled and no command runs. Pods have one container, as those of a study have. Where a kubelet's
work depends on the machine (probes, volumes, resources), there is nothing here.
"""

import asyncio
import heapq
import json
import random
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rehearsal.faults.nodes import Pull, PullFaults
from rehearsal.simulated_nodes import messages, pull_model
from rehearsal.simulated_nodes.api import STRATEGIC, EmitterApi, Pod
from rehearsal.simulated_nodes.clock import Clock
from rehearsal.simulated_nodes.disk import DiskHands, NodeDisk
from rehearsal.simulated_nodes.events import Recorder
from rehearsal.simulated_nodes.images import ImageStore, StoredImage
from rehearsal.simulated_nodes.node import SIMULATED_LABEL
from rehearsal.simulated_nodes.pod_status import PodReport
from rehearsal.simulated_nodes.pull_model import LayerSize, Parameters
from rehearsal.simulated_nodes.registry import NodesRegistry, PullError

Object = dict[str, Any]

REMOVE_ANNOTATION = "pull-study/remove"
"""Of a pod: JSON list of references that it removes from the node."""
_TRIAL_LABEL = "pull-study/trial"

_FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S = 10.0, 300.0
"""imageBackOffPeriod and MaxImageBackOff of kubelet.go."""
_SYNC_S = 12.0
"""A pod whose container cannot start is looked at again after backOffPeriod 10 s and a jitter."""
_STATUS_LAG_S = (25.0, 32.0)
"""After which a real node's status tells of a new image."""
_DISGUISED_S = 0.04
_BUSY_BYTES = 3e9
"""Still to be written when a pull has ended, from which on containers are slow to start."""


@dataclass(frozen=True, slots=True)
class Site:
    """What the kubelets of an emitter have in common."""

    api: EmitterApi
    clock: Clock
    registry: NodesRegistry
    parameters: Parameters
    faults: PullFaults


class _StopError(Exception):
    """A pod ends here: its last status is told."""


class Kubelet:
    """The kubelet of one node."""

    def __init__(self, site: Site, name: str, capacity: int, parallel_pulls: int) -> None:
        self.name = name
        self.images = ImageStore(capacity)
        self.received = 0
        """Bytes that have come over the network."""
        self.connected = asyncio.Event()
        """Set unless a fault has cut the node off: what is to be told waits."""
        self.connected.set()
        self._site = site
        self._clock = site.clock
        self._disk_speed = site.parameters.disk_of(name)
        self._random = random.Random(f"{site.parameters.seed}/{name}/times")  # noqa: S311
        self.recorder = Recorder(name, site.clock, self._send_event, {SIMULATED_LABEL: "true"})
        self.recorder.offset = site.faults.clock_offset(name)
        self._slots = [0.0] * parallel_pulls
        self._slot = asyncio.Semaphore(parallel_pulls)
        self._pulls: dict[str, int] = {}
        self._running: dict[str, tuple[asyncio.Task[None], PodReport]] = {}
        self._in_use: dict[str, str] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._spawn(self.recorder.run())
        self._telling: asyncio.Task[None] | None = None
        hands = DiskHands(
            record=self._say_of_node,
            patch_status=self.patch_status,
            tell_images=self._tell_images,
            in_use=lambda: list(self._in_use.values()),
            evict=self._evict,
            spawn=self._spawn,
        )
        self.disk = NodeDisk(name, self.images, site.clock, self._random, hands)
        self.disk.offset = self.recorder.offset

    def stop(self) -> None:
        """The node is gone, with all that it was doing."""
        tasks = [*self._background, *(task for task, _ in self._running.values())]
        self.disk.stop()
        for task in (*tasks, self._telling):
            if task:
                task.cancel()
        for _, report in self._running.values():
            report.stop()

    def pods(self) -> set[str]:
        """Uids of the pods that it has taken on and that are still there."""
        return set(self._running)

    def take(self, pod: Pod) -> None:
        """A pod is bound to the node, or has changed."""
        uid = pod.metadata.uid
        if pod.metadata.deletion_timestamp is not None:
            self._spawn(self._end(pod))
        elif uid not in self._running and pod.status.phase in ("", "Pending"):
            report = PodReport(pod, self._clock, self._site.api, self.connected)
            report.offset = self.recorder.offset
            task = asyncio.create_task(self._run(pod, report))
            self._running[uid] = (task, report)

    def drop(self, uid: str) -> None:
        """A pod is gone from the API."""
        if uid in self._running:
            task, report = self._running.pop(uid)
            task.cancel()
            report.stop()
        self._in_use.pop(uid, None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _end(self, pod: Pod) -> None:
        """A pod is to end: its container is stopped and the object removed."""
        if pod.metadata.uid in self._in_use:
            self._say(pod, messages.killing(pod.spec.containers[0].name), self._clock.now())
        self.drop(pod.metadata.uid)
        path = f"/api/v1/namespaces/{pod.metadata.namespace}/pods/{pod.metadata.name}"
        await self.connected.wait()
        precondition = {"preconditions": {"uid": pod.metadata.uid}}
        await self._site.api.send("DELETE", path, {"gracePeriodSeconds": 0, **precondition})

    async def _run(self, pod: Pod, report: PodReport) -> None:
        """A pod's life on the node."""
        begun = self._clock.now()
        deadline = pod.spec.active_deadline_seconds
        limit = deadline / self._clock.speed if deadline else None
        with suppress(_StopError):
            try:
                async with asyncio.timeout(limit):
                    await self._live(pod, report, begun)
            except TimeoutError:
                report.fail(
                    "DeadlineExceeded",
                    "Pod was active on the node longer than the specified deadline",
                    self._clock.now(),
                )
        self._in_use.pop(pod.metadata.uid, None)

    async def _live(self, pod: Pod, report: PodReport, begun: float) -> None:
        parameters = self._site.parameters
        container = pod.spec.containers[0]
        if self.disk.has_pressure:
            said = messages.rejected()
            self._say_of_pod(pod, said, begun)
            report.fail("Evicted", said.message, begun)
            return
        report.creating(begun)
        at = begun + parameters.sandbox_s * self._random.lognormvariate(0, 0.05)
        await self._clock.until(at)
        image, at, settle_s = await self._ensure_image(pod, report, at)
        self._in_use[pod.metadata.uid] = container.image
        busy = (
            parameters.busy_factor if settle_s * parameters.drain_bytes_per_s > _BUSY_BYTES else 1.0
        )
        at += parameters.create_s * busy * self._random.lognormvariate(0, 0.3)
        await self._clock.until(at)
        self._say(pod, messages.created(container.name), at)
        at += parameters.start_s * busy * self._random.lognormvariate(0, 0.3)
        await self._clock.until(at)
        self._say(pod, messages.started(container.name), at)
        report.running(image.name, at)
        started = at
        at += _run_s(container.command) + settle_s
        await self._clock.until(at)
        message = self._remove_images(pod)
        report.ended(image.name, started, at, message)
        at += parameters.sandbox_end_s
        await self._clock.until(at)
        report.succeeded(at)

    async def _ensure_image(
        self, pod: Pod, report: PodReport, at: float
    ) -> tuple[StoredImage, float, float]:
        """The image once it is there, when it was, and for how long the disk is still written."""
        container = pod.spec.containers[0]
        reference = container.image
        trial = pod.metadata.labels.get(_TRIAL_LABEL, "0")
        pull = Pull(
            int(trial) if trial.isdigit() else 0,
            self.name,
            pod.metadata.name,
            pod.metadata.uid,
            reference,
        )
        presence = self._site.faults.presence(pull)
        if presence:
            image = await self._site.registry.resolve(reference)
            self.images.add(reference, image, at)
        is_there = self.images.has(reference)
        if container.image_pull_policy == "Never" and not is_there:
            said = messages.never_present(reference)
            while True:
                self._say(pod, said, at)
                self._say(pod, messages.container_error("ErrImageNeverPull"), at)
                report.waiting("ErrImageNeverPull", said.message, at)
                at = await self._next_sync(at)
        if is_there and container.image_pull_policy != "Always" and presence != "disguised":
            self._say(pod, messages.present(reference), at)
        else:
            return await self._pull(pod, report, pull, at, disguised=presence == "disguised")
        image_there = self.images.use(reference, at)
        assert image_there is not None  # noqa: S101 - it was there a line ago
        return image_there, at, 0.0

    async def _pull(
        self, pod: Pod, report: PodReport, pull: Pull, at: float, *, disguised: bool
    ) -> tuple[StoredImage, float, float]:
        """Try until the image is there, with the kubelet's back-off."""
        back_off, attempt = _FIRST_BACK_OFF_S, 0
        while True:
            attempt += 1
            self._say(pod, messages.pulling(pull.image), at)
            try:
                image, begun, time = await self._try(pull, attempt, at, disguised=disguised)
            except PullError as error:
                at = self._clock.now()
                self._say(pod, messages.pull_failed(pull.image, str(error)), at)
                self._say(pod, messages.container_error("ErrImagePull"), at)
                report.waiting("ErrImagePull", str(error), at)
                at = await self._back_off(pod, report, str(error), at, back_off)
                back_off = min(back_off * 2, _LONGEST_BACK_OFF_S)
                continue
            end = begun + time.pull_s
            said = messages.pulled(pull.image, end - begun, end - at, image.size)
            self._say(pod, said, end)
            return image, end, time.settle_s

    async def _try(
        self, pull: Pull, attempt: int, asked: float, *, disguised: bool
    ) -> tuple[StoredImage, float, pull_model.PullTime]:
        """One try of a pull: the image, when its turn came, and what it took from there."""
        async with self._slot:
            begun = max(asked, heapq.heappop(self._slots))
            end = begun
            try:
                image, time = await self._fetch(pull, attempt, begun, disguised=disguised)
                end = begun + time.pull_s
                await self._clock.until(end)
                self.images.add(pull.image, image, end)
                self._tell_images()
                self.disk.look()
            except PullError:
                end = max(begun, self._clock.now())
                raise
            else:
                return image, begun, time
            finally:
                heapq.heappush(self._slots, end)

    async def _fetch(
        self, pull: Pull, attempt: int, begun: float, *, disguised: bool
    ) -> tuple[StoredImage, pull_model.PullTime]:
        parameters, faults = self._site.parameters, self._site.faults
        self._pulls[pull.image] = number = self._pulls.get(pull.image, 0) + 1
        noise = parameters.noise_factor(self.name, pull.image, number) * faults.factor(pull)
        if error := faults.error(pull, attempt):
            await self._clock.until(begun + parameters.resolve_s * noise)
            raise PullError(error)
        image = await self._site.registry.resolve(pull.image)
        if disguised:
            return image, pull_model.PullTime(_DISGUISED_S * noise, 0.0)
        missing = self.images.missing(image)
        if faults.disk_full(pull):
            self.disk.fill()
        if not self.images.fits(missing):
            room_s = self.images.available / parameters.unpack_bytes_per_s
            await self._clock.until(begun + (parameters.resolve_s + room_s) * noise)
            raise PullError(messages.no_space(pull.image, missing[-1].diff_id))
        layers = [LayerSize(layer.compressed, layer.unpacked) for layer in missing]
        download_s = 0.0
        if layers:
            cap = pull_model.download_cap(parameters, layers)
            size = sum(layer.compressed for layer in layers)
            download_s = await self._site.registry.download(cap, size)
            self.received += size
        return image, pull_model.pull_time(
            parameters, self._disk_speed, layers, download_s=download_s, noise=noise
        )

    async def _back_off(
        self, pod: Pod, report: PodReport, error: str, at: float, wait_s: float
    ) -> float:
        """Wait before the next try, and say so at each look at the pod; when it is over."""
        until = at + wait_s
        while (at := await self._next_sync(at)) < until:
            said = messages.backing_off(pod.spec.containers[0].image)
            self._say(pod, said, at)
            self._say(pod, messages.container_error("ImagePullBackOff"), at)
            report.waiting("ImagePullBackOff", f"{said.message}: ErrImagePull: {error}", at)
        return at

    async def _next_sync(self, at: float) -> float:
        at += _SYNC_S * self._random.uniform(0.9, 1.1)
        await self._clock.until(at)
        return at

    def _remove_images(self, pod: Pod) -> str:
        """What a pod that removes images says when it has; empty for any other pod."""
        wanted = pod.metadata.annotations.get(REMOVE_ANNOTATION)
        if wanted is None:
            return ""
        found = []
        for reference in json.loads(wanted):
            left = self.images.remove(reference)
            found.append({"image": self.images.has(reference), "layers": left, "partial": 0})
        self._tell_images()
        return json.dumps(found)

    # disk

    def _evict(self, at: float) -> bool:
        """End the pod that came last, as the eviction manager does; False where there is none."""
        alive = [uid for uid, (task, _) in self._running.items() if not task.done()]
        if not alive:
            return False
        task, report = self._running[alive[-1]]
        said = messages.evicted(self.images.eviction_threshold, self.images.available)
        self._say_of_pod(report.pod, said, at)
        task.cancel()
        self._in_use.pop(alive[-1], None)
        report.fail("Evicted", said.message, at)
        return True

    def _say_of_node(self, saying: messages.EventText, at: float) -> None:
        reference = {"kind": "Node", "name": self.name, "uid": self.name, "apiVersion": "v1"}
        self.recorder.record(reference, saying, at)

    # telling

    def _tell_images(self) -> None:
        """Let the node's status tell of its images soon, as a real one does late."""
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_images_late())

    async def _tell_images_late(self) -> None:
        await self._clock.until(self._clock.now() + self._random.uniform(*_STATUS_LAG_S))
        await self.patch_status({"images": self.images.newest()})

    async def patch_status(self, status: Object) -> None:
        """Change the node's status."""
        await self.connected.wait()
        await self._site.api.send(
            "PATCH", f"/api/v1/nodes/{self.name}/status", {"status": status}, STRATEGIC
        )

    def _say(self, pod: Pod, saying: messages.EventText, at: float) -> None:
        """An event about a pod's container."""
        field = f"spec.containers{{{pod.spec.containers[0].name}}}"
        self.recorder.record({**_reference(pod), "fieldPath": field}, saying, at)

    def _say_of_pod(self, pod: Pod, saying: messages.EventText, at: float) -> None:
        self.recorder.record(_reference(pod), saying, at)

    async def _send_event(self, event: Object, again: bool) -> None:
        await self.connected.wait()
        path = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
        if again:
            name = event["metadata"]["name"]
            change = {key: event[key] for key in ("count", "lastTimestamp", "message")}
            await self._site.api.send("PATCH", f"{path}/{name}", change, STRATEGIC)
        else:
            await self._site.api.send("POST", path, event)


def _reference(pod: Pod) -> Object:
    return {
        "kind": "Pod",
        "namespace": pod.metadata.namespace,
        "name": pod.metadata.name,
        "uid": pod.metadata.uid,
        "apiVersion": "v1",
        "resourceVersion": pod.metadata.resource_version,
    }


def _run_s(command: list[str]) -> float:
    """How long a container's command runs: `sleep N` is known, all else is done at once."""
    if len(command) == 2 and command[0].endswith("sleep"):  # noqa: PLR2004
        with suppress(ValueError):
            return float(command[1])
    return 0.0
