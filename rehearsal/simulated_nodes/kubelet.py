"""What the kubelet of one simulated node does for the pods of Jobs that are bound to it.

It records and patches what a kubelet would, at the instants that the model of pulls gives; no byte
is pulled and no command runs. Pods have one container and the policy IfNotPresent, as those of a
study have; those of a MiniCluster have an init container too. Where a kubelet's work depends on the
machine (probes, volumes, resources), there is nothing here.
"""

import asyncio
import heapq
import json
import random
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rehearsal.cluster.kubernetes import (
    JSON,
    STRATEGIC,
    ClusterError,
    KubernetesClient,
    Object,
    pod_path,
)
from rehearsal.faults.nodes import Pull, PullFaults
from rehearsal.simulated_nodes import messages, pull_model
from rehearsal.simulated_nodes.clock import Clock
from rehearsal.simulated_nodes.disk import DiskPressure, ImageStore, NodeActions, StoredImage
from rehearsal.simulated_nodes.events import Recorder
from rehearsal.simulated_nodes.node import SIMULATED_LABEL
from rehearsal.simulated_nodes.objects import Container, Pod
from rehearsal.simulated_nodes.pod_status import PodStatus
from rehearsal.simulated_nodes.pull_model import LayerSize, Parameters
from rehearsal.simulated_nodes.quorum import RUN_S, Quorums
from rehearsal.simulated_nodes.registry import NodesRegistry, PullError
from schema.names import REMOVE_ANNOTATION, ROOFS_ANNOTATION, TRIAL_LABEL

_FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S = 10.0, 300.0
"""imageBackOffPeriod and MaxImageBackOff of kubelet.go."""
_SYNC_S = 12.0
"""A pod whose container cannot start is looked at again after backOffPeriod 10 s and a jitter."""
_STATUS_LAG_S = (25.0, 32.0)
"""After which a real node's status lists a new image."""
_NOTHING_MOVED_S = 0.04
"""Of an image that was on the node, also on a secondary boot disk: an assumption for the latter."""
_STREAMED_REGISTRY = "-docker.pkg.dev"
"""GKE streams images of Artifact Registry (cloud.google.com, Use Image streaming, Requirements)."""
_EVENT_TRIES = 25
"""A minute and a half; client-go's recorder gives up after 12 tries, 10 s apart."""
_BUSY_BYTES = 3e9
"""Still to be written when a pull has ended, from which on containers are slow to start."""


@dataclass(frozen=True, slots=True)
class Site:
    """What the kubelets of a cluster share."""

    api: KubernetesClient
    clock: Clock
    registry: NodesRegistry
    parameters: Parameters
    faults: PullFaults
    tasks: asyncio.TaskGroup
    """Of all work: a task that fails ends the process, so that no node falls silent unnoticed."""
    quorums: Quorums


@dataclass(frozen=True, slots=True)
class _Work:
    """A container that is to run, of a pod."""

    status: PodStatus
    container: Container
    kind: str = "containers"
    """As the pod's spec names it."""

    @property
    def pod(self) -> Pod:
        return self.status.pod


class Kubelet:
    """The kubelet of one node."""

    def __init__(
        self,
        site: Site,
        name: str,
        capacity: int,
        parallel_pulls: int,
        *,
        preloaded: bool = False,
        unpacks: int = 1,
        streaming: bool = False,
    ) -> None:
        self.name = name
        self.unpacks = unpacks
        """Layers unpacked at once."""
        self._preloaded = preloaded
        self._streaming = streaming
        self._streamed: set[str] = set()
        """Names of images whose bytes come when they are read."""
        self.images = ImageStore(capacity)
        self.received = 0
        """Bytes that have arrived over the network."""
        self.connected = asyncio.Event()
        """Set unless a fault has disconnected the node: its writes wait."""
        self.connected.set()
        self.clock = site.clock.ahead(site.faults.clock_ahead(name))
        self._site = site
        self._disk_speed = site.parameters.disk_of(name)
        self._random = random.Random(f"{site.parameters.seed}/{name}/times")  # noqa: S311
        self._slots = [0.0] * parallel_pulls
        self._slot = asyncio.Semaphore(parallel_pulls)
        self._pulls: dict[str, int] = {}
        self._pods: dict[str, tuple[asyncio.Task[None], PodStatus]] = {}
        self._in_use: set[str] = set()
        """Uids of the pods whose containers exist."""
        self._background: set[asyncio.Task[None]] = set()
        self._image_report: asyncio.Task[None] | None = None
        self._recorder = Recorder(name, self.clock, self._send_event, {SIMULATED_LABEL: "true"})
        self._spawn(self._recorder.run())
        actions = NodeActions(self._record_node, self.patch_status, self._evict)
        self.pressure = DiskPressure(name, self.images, self.clock, actions)

    def stop(self) -> None:
        """Stop all work: the node is deleted."""
        for task in list(self._background):
            task.cancel()

    def pods(self) -> set[str]:
        """Return the uids of the pods that it has admitted and that still exist."""
        return set(self._pods)

    def update(self, pod: Pod) -> None:
        """Handle a pod that is bound to the node, or has changed."""
        uid = pod.metadata.uid
        if pod.metadata.deletion_timestamp is not None:
            self._spawn(self._end(pod))
        elif uid not in self._pods and pod.status.phase in ("", "Pending"):
            status = PodStatus(pod, self.clock, self._site.api, self.connected, self._spawn)
            self._pods[uid] = (self._spawn(self._run(pod, status)), status)

    def forget(self, uid: str) -> None:
        """Stop work on a pod that is deleted."""
        if uid in self._pods:
            task, status = self._pods.pop(uid)
            task.cancel()
            status.stop()
        self._in_use.discard(uid)

    async def patch_status(self, status: Object) -> None:
        await self._send("PATCH", f"/api/v1/nodes/{self.name}/status", {"status": status})

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._site.tasks.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _send(self, method: str, path: str, body: Object) -> None:
        """Write once the node is connected; a write that is refused is counted lost."""
        await self.connected.wait()
        content = STRATEGIC if method == "PATCH" else JSON
        try:
            await self._site.api.send(method, path, body, content)
        except ClusterError as error:
            self.clock.report.lose(str(error))

    async def _end(self, pod: Pod) -> None:
        """Stop the container of a pod that is to be deleted, and delete the object."""
        metadata = pod.metadata
        if metadata.uid in self._in_use:
            work = _Work(self._pods[metadata.uid][1], pod.spec.containers[0])
            self._record(work, messages.killing(work.container.name), self.clock.now())
        self.forget(metadata.uid)
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata.uid}}
        await self._send("DELETE", pod_path(metadata.namespace, metadata.name), body)

    async def _run(self, pod: Pod, status: PodStatus) -> None:
        start = self.clock.now()
        deadline = pod.spec.active_deadline_seconds
        try:
            async with asyncio.timeout(deadline / self.clock.speed if deadline else None):
                await self._live(pod, status, start)
        except TimeoutError:
            message = "Pod was active on the node longer than the specified deadline"
            status.fail("DeadlineExceeded", message, self.clock.now())
        self._in_use.discard(pod.metadata.uid)

    async def _live(self, pod: Pod, status: PodStatus, start: float) -> None:
        parameters, container = self._site.parameters, pod.spec.containers[0]
        if self.pressure.active:
            text = messages.rejected()
            self._recorder.record(_reference(pod), text, start)
            status.fail("Evicted", text.message, start)
            return
        status.creating(start)
        at = start + parameters.sandbox_s * self._random.lognormvariate(0, 0.05)
        await self.clock.until(at)
        for each in pod.spec.init_containers:
            init = _Work(status, each, "initContainers")
            image, started, _ = await self._start(init, at)
            at = started + parameters.init_s * self._random.lognormvariate(0, 0.02)
            await self.clock.until(at)
            status.initialized(image.name, started, at)
        image, started, settle_s = await self._start(_Work(status, container), at)
        status.running(image.name, started)
        size = sum(layer.unpacked for layer in image.layers)
        read = pull_model.image_read(container.command, size, self._read_rate(image))
        at = started + read.seconds + pull_model.run_s(container.command) + settle_s
        if pod.spec.init_containers:
            await self._site.quorums.join(pod)
            at = max(at, self.clock.now()) + RUN_S
        await self.clock.until(at)
        status.ended(image.name, started, at, read.message or self._answer(pod))
        at += parameters.sandbox_end_s
        await self.clock.until(at)
        status.succeeded(at)

    async def _start(self, work: _Work, at: float) -> tuple[StoredImage, float, float]:
        """Start a container; return its image, when it did, and how long the disk is still busy."""
        parameters = self._site.parameters
        image, at, settle_s = await self._ensure_image(work, at)
        self._in_use.add(work.pod.metadata.uid)
        is_busy = settle_s * parameters.drain_bytes_per_s > _BUSY_BYTES
        busy = parameters.busy_factor if is_busy else 1.0
        at += parameters.create_s * busy * self._random.lognormvariate(0, 0.3)
        await self.clock.until(at)
        self._record(work, messages.created(work.container.name), at)
        at += parameters.start_s * busy * self._random.lognormvariate(0, 0.3)
        await self.clock.until(at)
        self._record(work, messages.started(work.container.name), at)
        return image, at, settle_s

    async def _ensure_image(self, work: _Work, at: float) -> tuple[StoredImage, float, float]:
        """Return the image once it is there, when it was, and how long the disk is still busy."""
        pod, reference = work.pod, work.container.image
        trial = pod.metadata.labels.get(TRIAL_LABEL, "0")
        number = int(trial) if trial.isdigit() else 0
        pull = Pull(number, self.name, pod.metadata.name, pod.metadata.uid, reference)
        presence = self._site.faults.presence(pull)
        if presence:
            with suppress(PullError):
                self.images.add(reference, await self._site.registry.resolve(reference))
        image = self.images.find(reference)
        if image and presence != "disguised":
            self._record(work, messages.present(reference), at)
            return image, at, 0.0
        disguised = presence == "disguised"
        return await self._pull(work, pull, at, disguised=disguised)

    async def _pull(
        self, work: _Work, pull: Pull, at: float, *, disguised: bool
    ) -> tuple[StoredImage, float, float]:
        """Try until the image is there, with the kubelet's back-off."""
        back_off, attempt = _FIRST_BACK_OFF_S, 0
        while True:
            attempt += 1
            self._record(work, messages.pulling(pull.image), at)
            try:
                image, start, time = await self._try(pull, attempt, at, disguised=disguised)
            except PullError as error:
                at = self.clock.now()
                self._record(work, messages.pull_failed(pull.image, str(error)), at)
                self._record(work, messages.container_error("ErrImagePull"), at)
                work.status.waiting("ErrImagePull", str(error), at)
                at = await self._back_off(work, str(error), at, back_off)
                back_off = min(back_off * 2, _LONGEST_BACK_OFF_S)
                continue
            end = start + time.pull_s
            text = messages.pulled(pull.image, end - start, end - at, image.size)
            self._record(work, text, end)
            return image, end, time.settle_s

    async def _try(
        self, pull: Pull, attempt: int, requested: float, *, disguised: bool
    ) -> tuple[StoredImage, float, pull_model.PullTime]:
        """Try a pull once; return the image, when it started after waiting, and its durations."""
        async with self._slot:
            start = max(requested, heapq.heappop(self._slots))
            end = start
            try:
                image, time = await self._fetch(pull, attempt, start, disguised=disguised)
                end = start + time.pull_s
                await self.clock.until(end)
                self.images.add(pull.image, image)
                self._report_images()
            except PullError:
                end = max(start, self.clock.now())
                raise
            else:
                return image, start, time
            finally:
                heapq.heappush(self._slots, end)

    async def _fetch(
        self, pull: Pull, attempt: int, start: float, *, disguised: bool
    ) -> tuple[StoredImage, pull_model.PullTime]:
        parameters, faults = self._site.parameters, self._site.faults
        self._pulls[pull.image] = number = self._pulls.get(pull.image, 0) + 1
        noise = parameters.noise_factor(self.name, pull.image, number) * faults.factor(pull)
        if how := faults.failure(pull, attempt):
            await self.clock.until(start + parameters.resolve_s * noise)
            raise PullError(messages.PULL_FAILURES[how](pull.image))
        image = await self._site.registry.resolve(pull.image)
        if disguised or self._preloaded:
            return image, pull_model.PullTime(_NOTHING_MOVED_S * noise, 0.0)
        missing = self.images.missing(image)
        if faults.disk_full(pull) and not self.images.ballast:
            self.images.fill()
            self._spawn(self.pressure.run())
        if not self.images.fits(missing):
            room_s = self.images.available / parameters.unpack_bytes_per_s
            await self.clock.until(start + (parameters.resolve_s + room_s) * noise)
            raise PullError(messages.no_space(pull.image, missing[-1].diff_id))
        layers = [LayerSize(layer.compressed, layer.unpacked) for layer in missing]
        if self._streams(pull.image):
            self._streamed.add(image.name)
            self.received += sum(layer.compressed for layer in layers)  # in the background
            time = pull_model.PullTime(parameters.resolve_s * noise, 0.0)
            self._record_node(messages.streamed(image.name), start + time.pull_s)
            return image, time
        download_s = 0.0
        if layers:
            cap = pull_model.download_cap(parameters, layers)
            size = sum(layer.compressed for layer in layers)
            download_s = await self._site.registry.download(cap, size)
            self.received += size
        return image, pull_model.pull_time(
            parameters,
            self._disk_speed,
            layers,
            download_s=download_s,
            noise=noise,
            unpacks=self.unpacks,
        )

    def _streams(self, image: str) -> bool:
        return self._streaming and image.partition("/")[0].endswith(_STREAMED_REGISTRY)

    def _read_rate(self, image: StoredImage) -> float:
        parameters = self._site.parameters
        rate = parameters.read_memory_bytes_per_s
        if self._preloaded:
            rate = parameters.read_disk_bytes_per_s
        elif image.name in self._streamed:
            rate = parameters.read_streamed_bytes_per_s
        return rate / parameters.noise_factor(self.name, image.name, "read")

    async def _back_off(self, work: _Work, error: str, at: float, wait_s: float) -> float:
        """Wait before the next try, and report it at each sync; return when it is over."""
        until = at + wait_s
        while (at := await self._next_sync(at)) < until:
            text = messages.backing_off(work.container.image)
            self._record(work, text, at)
            self._record(work, messages.container_error("ImagePullBackOff"), at)
            work.status.waiting("ImagePullBackOff", f"{text.message}: ErrImagePull: {error}", at)
        return at

    async def _next_sync(self, at: float) -> float:
        at += _SYNC_S * self._random.uniform(0.9, 1.1)
        await self.clock.until(at)
        return at

    def _answer(self, pod: Pod) -> str:
        """Return the termination message of a pod that works on its node; else empty."""
        if ROOFS_ANNOTATION in pod.metadata.annotations:
            return json.dumps({"note": "a simulated node has no disk, core or network to measure"})
        references = pod.metadata.annotations.get(REMOVE_ANNOTATION)
        if references is None:
            return ""
        removed = [
            {"image": False, "layers": self.images.remove(reference), "partial": 0}
            for reference in json.loads(references)
        ]
        self._report_images()
        return json.dumps(removed)

    def _evict(self, at: float) -> None:
        """End the newest pod, if there is any, as the eviction manager does."""
        alive = [uid for uid, (task, _) in self._pods.items() if not task.done()]
        if not alive:
            return
        task, status = self._pods[alive[-1]]
        text = messages.evicted(self.images.eviction_threshold, self.images.available)
        self._recorder.record(_reference(status.pod), text, at)
        task.cancel()
        self._in_use.discard(alive[-1])
        status.fail("Evicted", text.message, at)

    def _report_images(self) -> None:
        """Patch the images of the node's status soon, as a real kubelet does late."""
        if self._image_report is None or self._image_report.done():
            self._image_report = self._spawn(self._report_images_late())

    async def _report_images_late(self) -> None:
        await self.clock.until(self.clock.now() + self._random.uniform(*_STATUS_LAG_S))
        await self.patch_status({"images": self.images.largest()})

    def _record(self, work: _Work, text: messages.EventText, at: float) -> None:
        """Record an event about a pod's container."""
        field = f"spec.{work.kind}{{{work.container.name}}}"
        self._recorder.record({**_reference(work.pod), "fieldPath": field}, text, at)

    def _record_node(self, text: messages.EventText, at: float) -> None:
        reference = {"kind": "Node", "name": self.name, "uid": self.name, "apiVersion": "v1"}
        self._recorder.record(reference, text, at)

    async def _send_event(self, event: Object, exists: bool) -> None:
        await self.connected.wait()
        path = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
        send = self._site.api.send
        if exists:
            name = event["metadata"]["name"]
            change = {key: event[key] for key in ("count", "lastTimestamp", "message")}
            await send("PATCH", f"{path}/{name}", change, STRATEGIC, tries=_EVENT_TRIES)
        else:
            await send("POST", path, event, tries=_EVENT_TRIES)


def _reference(pod: Pod) -> Object:
    return {
        "kind": "Pod",
        "namespace": pod.metadata.namespace,
        "name": pod.metadata.name,
        "uid": pod.metadata.uid,
        "apiVersion": "v1",
        "resourceVersion": pod.metadata.resource_version,
    }
