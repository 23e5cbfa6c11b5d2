"""The records of a run's folder, one model a file (docs/method.md shows a folder).

run.json           RunRecord, replaced (atomically) as facts become known
phases.jsonl       PhaseRecord, a line when a phase ends
nodes.json         a Kubernetes NodeList, as `kubectl get nodes -o json` prints it
trials.jsonl       TrialRecord, a line when a trial ends
nodestats.jsonl    NodeStatsRecord, a line a node before and after each trial
nodes.jsonl        NodeRecord, a line a node when it comes, goes, or its condition changes
jobs.jsonl         JobRecord, a line a trial's Job when the job controller was done with it
gaps.jsonl         GapRecord, a line a period in which a source may have missed events
repository.jsonl   RepositoryRecord, a line a list of the remote repository, where there is one
removals.jsonl     RemovalRecord, a line a node and image whose removal was requested
events.watch.jsonl, events.logging.jsonl   EventRecord, a line an event as its source gave it
ledger.jsonl       CellRecord, a line a cell, again when it is judged again: the last line of a cell
                   counts, and of a trial's attempts the last one
evidence.jsonl     EvidenceRecord of schema.evidence_records, a line each time that it is judged

All times are RFC 3339 in UTC by the runner's clock unless a field says otherwise; durations are
in seconds. Where simulated nodes run faster than the clock (Rehearsal.speed), all times are still
the real clock's: an interval between two steps on a node then stands for `speed` times as long, an
interval of the control plane or of the runner for itself, and durations in messages are not
changed.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from schema.stack_outputs import StackOutputs
from schema.study import Study


class Status(StrEnum):
    """The outcome of a cell (one image on one node, once)."""

    VALID = "valid"
    """One real, cold, complete pull, with its evidence."""
    PRELOADED = "preloaded"
    """The image was on the node's secondary boot disk by intent: its start is measured."""
    CACHED = "cached"
    """The image was on the node already: nothing was pulled."""
    REPEATED = "repeated"
    """More than one pull of the image on this node."""
    MISSING_EVENTS = "missing-events"
    """The events that would prove the pull are missing."""
    RETRIED = "retried"
    """The pull failed first and succeeded later."""
    FAILED = "failed"
    """The pull failed."""
    EVICTED = "evicted"
    """The pod was evicted."""
    DISK_PRESSURE = "disk-pressure"
    """The node was short of disk while it pulled."""
    NODE_LOST = "node-lost"
    """The node was not Ready, or deleted."""
    WARM_LAYERS = "warm-layers"
    """Layers of the image were on the node before: fewer bytes travelled."""
    ABORTED = "aborted"
    """The trial ended before this cell could."""

    @property
    def intended(self) -> bool:
        """Whether the cell is what its study wants of it; else it is excluded."""
        return self in {Status.VALID, Status.PRELOADED}


class Cache(StrEnum):
    """Whether a remote repository held a trial's image before the trial."""

    NONE = ""
    """The image was not pulled through one."""
    COLD = "cold"
    """It was not there: the repository fetched it from its own registry."""
    WARM = "warm"
    UNPROVED = "unproved"
    """The repository's lists do not show it."""


class Phase(StrEnum):
    """Named parts of a run, in their order."""

    PREFLIGHT = "preflight"
    PROVISION = "provision"
    PREPARE = "prepare"
    MEASURE = "measure"
    COLLECT = "collect"
    TEARDOWN = "teardown"


class Source(StrEnum):
    """Where an event was seen."""

    WATCH = "watch"
    """The runner's own watch of the API server."""
    EXPORTER = "exporter"
    """kubernetes-event-exporter's entries in Cloud Logging."""
    NATIVE = "native"
    """GKE's own event log in Cloud Logging."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Layer(_Record):
    """One layer of an image's manifest."""

    digest: str
    size_bytes: int = Field(ge=0)
    """Compressed: what travels."""
    diff_id: str
    """Digest of the uncompressed layer, by which containerd identifies it."""


class PlannedImage(_Record):
    """One image with its digest, as resolved when the run was planned."""

    repository: str
    tag: str
    digest: str
    """Digest of the platform's manifest or of the index that the tag names."""
    layers: tuple[Layer, ...]
    upstream: str = ""
    """Where `repository` is a remote repository: the one behind it, in which the image was
    resolved; else empty."""

    @property
    def source(self) -> str:
        """The repository that has the image whatever was pulled."""
        return self.upstream or self.repository

    @property
    def reference(self) -> str:
        """`repository:tag@digest`, as the Job names it and events repeat it."""
        return f"{self.repository}:{self.tag}@{self.digest}"

    @property
    def compressed_bytes(self) -> int:
        """Bytes that a cold pull moves, layers only."""
        return sum(layer.size_bytes for layer in self.layers)


class PlannedTrial(_Record):
    """A turn of one image."""

    trial: int = Field(ge=1)
    repetition: int = Field(ge=1)
    image: PlannedImage
    warm_bytes: int = Field(ge=0)
    """Compressed bytes of layers that earlier trials left on the nodes."""
    view: PlannedImage | None = None
    """Image of Flux that the pods of a MiniCluster start first; None for a Job. It is on every node
    before the first trial."""
    read_share: float = Field(default=0.0, ge=0, le=1)
    """Largest share of the image's bytes that each pod reads."""


class Rehearsal(_Record):
    """What was not real in a rehearsed run."""

    nodes: str
    """'real' (kubelet and containerd on one machine) or 'simulated'."""
    scale: float = Field(gt=0)
    """Images hold this fraction of the bytes that their tags claim."""
    note: str = ""
    speed: float = Field(default=1.0, gt=0)
    """How many times faster than the clock simulated nodes work; 1 for real nodes."""
    faults: tuple[str, ...] = ()
    """Requested faults, as `NAME[:ARGS]`."""


class ExistingCluster(_Record):
    """A cluster that existed before the run and stays."""

    kubeconfig: str
    """Path of the file."""
    context: str
    """Of the file; empty for its current one."""
    selector: str
    """Of the measured nodes, by label; empty for all that were Ready and took pods."""
    nodes: tuple[str, ...] = ()
    """Names of the measured nodes, chosen when the run was planned; a resumed run has the same."""


class ZoneAttempt(_Record):
    """One try to create the cluster in one zone."""

    zone: str
    started_at: datetime
    ended_at: datetime
    problem: str = ""
    """Why it did not come up there; empty for success."""


class RoofRecord(_Record):
    """Rates that a node reached in one part of a pull alone; None for a part not measured.

    All nodes of the cluster measured at the same time, as they pull.
    """

    node: str
    unpack_bytes_per_s: float | None = None
    """Unpacked bytes of a known gzip blob, half of them random, by the node's containerd."""
    write_bytes_per_s: float | None = None
    """Bytes to the disk that holds images, until they are on it."""
    receive_bytes_per_s: float | None = None
    """Compressed bytes of one blob from the registry, once the first have arrived."""
    note: str = ""
    """Why a part was not measured."""


class RunRecord(_Record):
    """A run: one study on one stack."""

    schema_version: int = 1
    run_id: str
    started_at: datetime
    stack: str
    study: Study
    study_file: str
    seed: int
    trials: tuple[PlannedTrial, ...]
    versions: dict[str, str] = {}
    """Of the runner, Pulumi, the control plane, the kubelets, the container runtime."""
    rehearsal: Rehearsal | None = None
    """None for a run on Google Cloud."""
    outputs: StackOutputs | None = None
    """Known once the stack is up."""
    zone_attempts: tuple[ZoneAttempt, ...] = ()
    """Zones that were tried, of every attempt of the run; `outputs.zone` is where it measured."""
    existing: ExistingCluster | None = None
    """Where no stack made the cluster; `stack` is then a name for it."""
    staging: bool = True
    """Whether each trial's Job was made while the one before pulled."""
    remover: PlannedImage | None = None
    """Image of the Jobs that remove images from nodes, or measure roofs; None if none does."""
    warnings: tuple[str, ...] = ()
    """What may have disturbed the pulls, as found on the nodes before the first trial."""
    roofs: tuple[RoofRecord, ...] = ()
    """Of its nodes, where its study has them measured (Study.roofs)."""
    budget_usd: float | None = None
    """The run stops before the trial that would cost more; None without a limit."""
    deadline_hours: int | None = None
    """Of the cluster, by the run's estimate; None for what the stack's file says."""

    @property
    def view(self) -> PlannedImage | None:
        """Image of Flux of its MiniClusters; None for Jobs."""
        return self.trials[0].view if self.trials else None

    @property
    def sources_note(self) -> str:
        """What the events come from, where the cluster has no exporter; empty where it has one."""
        if self.outputs is None or self.outputs.exporter_deployment:
            return ""
        if self.outputs.log_filter:
            return (
                "The cluster has no event exporter: events come from the runner's watch and GKE's "
                "own event log."
            )
        return "There is no Cloud Logging: the runner's watch is the only source of events."

    @property
    def speed(self) -> float:
        """How many times faster than the clock its nodes were; 1 for real ones."""
        return self.rehearsal.speed if self.rehearsal else 1.0


class StepRecord(_Record):
    """A part of a phase that the runner waited for."""

    name: str
    started_at: datetime
    ended_at: datetime


class PhaseRecord(_Record):
    """A phase that ended."""

    phase: Phase
    started_at: datetime
    ended_at: datetime
    error: str | None = None
    attempt: int = 1
    steps: tuple[StepRecord, ...] = ()
    """In their order; between two steps the runner did something that takes almost no time."""
    cluster_since: datetime | None = None
    """Of a resumed attempt's preflight: from then until `cluster_until` a cluster that an earlier
    attempt did not take down cost money, and no phase says so. Where its end is unknown, it counts
    to the end of this phase, at most to its deadline."""
    cluster_until: datetime | None = None


class ShareRead(_Record):
    """A share of an image's bytes, read."""

    percent: int = Field(ge=0, le=100)
    bytes: int = Field(ge=0, le=2**62)
    """Read by then; fewer than the share where files could not be read."""
    seconds: float = Field(ge=0, le=1e9)
    """Since reading began, by the clock of the node's kernel, 10 ms resolution."""


class Reading(_Record):
    """What a pod reports of reading its image's files."""

    bytes: int = Field(default=0, ge=0, le=2**62)
    """Of all files, by their sizes."""
    list_s: float = Field(default=0.0, ge=0, le=1e9)
    """What listing them took, before reading began."""
    reads: tuple[ShareRead, ...] = ()
    note: str = ""
    """Why nothing was read."""


class TrialPod(_Record):
    """The pod of one completion index, as the runner last saw it."""

    index: int
    node: str
    pod: str
    uid: str
    phase: str = ""
    """Pending, Running, Succeeded or Failed."""
    failure: str = ""
    """Why it did not succeed: the waiting reason or the pod's reason, and its message."""
    finished_at: datetime | None = None
    """When the container ended, by the kubelet's clock, 1 s resolution."""
    bound_at: datetime | None = None
    """When the runner's binding of it was accepted, by the runner's clock; None if a scheduler
    bound it, or it was not bound."""
    bound_seen: datetime | None = None
    """When the runner saw it bound to its node."""
    over_seen: datetime | None = None
    """When the runner saw that its outcome was final."""
    deleted_seen: datetime | None = None
    """When the runner saw it deleted; None if the run ended before."""
    started: bool = False
    """Whether the study's container has run; its image was there then, whatever came later."""
    pull_policy: str = "IfNotPresent"
    """As the pod had it in the cluster: an admission plugin can change it."""
    reading: Reading | None = None
    """None without a termination message."""


class TrialRecord(_Record):
    """A trial that ended: one image on every node, once."""

    trial: int
    repetition: int
    attempt: int = 1
    """Counts from 1; a resumed run may measure a trial again. Only the last attempt counts."""
    reference: str
    job: str
    namespace: str
    pods: tuple[TrialPod, ...]
    staged_at: datetime | None
    """None if its turn never came."""
    all_created_at: datetime | None = None
    """When the runner saw that all pods of the Job exist, staged; None if it never did."""
    released_at: datetime | None
    """When the runner began to bind the pods to their nodes; None if the trial ended before."""
    first_bound_at: datetime | None
    """When the runner saw the first pod bound to its node."""
    all_bound_at: datetime | None
    last_finished_at: datetime | None
    """When the runner saw the last pod end."""
    error: str | None = None
    cluster: str = ""
    """Uid of the namespace kube-system: which cluster the attempt was on."""
    fresh: bool = True
    """When the attempt began, the nodes had pulled nothing; else each image's absence is proved."""
    removal_begun_at: datetime | None = None
    """When images began to be removed from the nodes for this trial; None if none had to be."""
    removal_ended_at: datetime | None = None


class NodeStatsRecord(_Record):
    """A kubelet's figures of traffic and disk (stats/summary) around a trial."""

    trial: int
    attempt: int = 1
    moment: str
    """`before` the trial's release or `after` its last container's end."""
    node: str
    at: datetime
    """Of the summary's own time for the network figures: the kubelet's clock."""
    received_bytes: int | None = None
    """Counter of the node's default network interface; None where the kubelet reports none."""
    sent_bytes: int | None = None
    disk_used_bytes: int | None = None
    """Of the file system that holds the node's pods and logs (nodefs)."""
    image_disk_used_bytes: int | None = None
    """Of the file system that holds images (imagefs)."""
    written_bytes: int | None = None
    """Counter of bytes written to disk, where the node reports it (cAdvisor's diskio)."""
    error: str | None = None
    """Why there are no figures."""


class NodeRecord(_Record):
    """A measured node as the runner's watch showed it when something of it changed."""

    attempt: int = 1
    node: str
    uid: str
    at: datetime
    ready: bool
    """False also when its kubelet no longer reports."""
    pressures: tuple[str, ...] = ()
    """Conditions that are True: DiskPressure, MemoryPressure, PIDPressure, and any but Ready."""
    deleted: bool = False
    images: tuple[str, ...] = ()
    """Of the attempt's images those that node.status.images lists, by digest, when it was added.

    The kubelet lists 50 images at most, and new ones late, so this can prove presence alone.
    """


class JobRecord(_Record):
    """A trial's Job once the job controller was done with it.

    Its own event says so only up to 24 pods: the recorder takes 25 events an object and drops the
    rest (client-go, tools/record/events_cache.go), and there is one for each pod.
    """

    job: str
    uid: str
    at: datetime
    """When the runner's watch showed it, by the runner's clock."""
    complete: bool
    """False for a Job that failed."""


class GapRecord(_Record):
    """A period in which a source may have missed events."""

    source: Source
    since: datetime
    until: datetime
    reason: str
    recovered: bool = False
    """The source continued where it was cut: events arrived late, and none is missing."""


class RemovalRecord(_Record):
    """An image whose removal from a node was requested, with the node's report of its absence."""

    before_trial: int
    """The trial before which the image is removed."""
    attempt: int = 1
    node: str
    reference: str
    at: datetime
    absent: bool
    """Neither the image nor a layer of it that no other image of the run has is on the node."""
    detail: str = ""
    left_bytes: int = 0
    """Compressed bytes of the image's layers that are still on the node: other images use them."""


class RepositoryRecord(_Record):
    """What the remote repository held, by its own list."""

    attempt: int = 1
    before_trial: int | None
    """None after the last trial of the attempt."""
    at: datetime
    digests: tuple[str, ...]
    """Of its images."""


class EventRecord(_Record):
    """An event as one source returned it."""

    source: Source
    received_at: datetime
    """By the runner's clock (watch), or Cloud Logging's receiveTimestamp."""
    insert_id: str = ""
    listed: bool = False
    """The watch found it in a list, so it may be older than received_at by up to an hour."""
    event: dict[str, Any]
    """A core/v1 Event; from the exporter with labels inside involvedObject."""


class CellPhases(_Record):
    """When a cell's steps happened; None where unknown.

    view_started_at is of a MiniCluster's init container; empty for a Job. released_at is of the
    runner's clock, as are scheduled_at, when its binding of the pod was
    accepted, and job_complete_at, when its watch showed the Job complete. Where a scheduler bound
    the pod, scheduled_at is of the scheduler's. finished_at is from the kubelet's container status
    with 1 s resolution; the others are of the kubelet's clock, with the nanoseconds of the event's
    name.
    """

    released_at: datetime | None = None
    scheduled_at: datetime | None = None
    view_started_at: datetime | None = None
    pulling_at: datetime | None = None
    pulled_at: datetime | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    job_complete_at: datetime | None = None


class SpanKind(StrEnum):
    """What containerd did meanwhile."""

    PULL = "pull"
    """Answered a call of PullImage."""
    FETCH = "fetch"
    """Requested something of a registry, or stored it."""
    UNPACK = "unpack"
    """Unpacked a layer, or waited for it to be there."""


class SpanRecord(_Record):
    """A span of a node's containerd within a pull: spans.jsonl."""

    node: str
    trace: str
    """Id of the trace: spans of one pull have one."""
    kind: SpanKind
    begin_ns: int
    """Since 1970, by the node's clock."""
    end_ns: int
    image: str = ""
    """Of a pull, as containerd names it."""
    layer: str = ""
    """Digest, where one layer is fetched or unpacked."""


class CellRecord(_Record):
    """One cell of the study: a trial on one node."""

    run: str
    trial: int
    repetition: int
    attempt: int = 1
    """Only a trial's last attempt counts."""
    nodes: int
    """Cluster size N."""
    reference: str
    tag: str
    node: str
    pod: str
    pod_uid: str
    status: Status
    reason: str
    """One sentence; empty when valid."""
    marks: tuple[str, ...] = ()
    """Sentences on what affected the cell without excluding it: a gap of a source, a clock, ..."""
    cluster: str = ""
    """Uid of the cluster's namespace kube-system; a resumed run may have cells of several."""
    cache: Cache = Cache.NONE
    """Of the remote repository, before the trial."""
    pull_s: float | None
    """Of the kubelet's message, without waiting."""
    pull_and_wait_s: float | None
    image_bytes: int | None
    """Compressed size in the kubelet's message."""
    warm_bytes: int
    fetch_s: float | None = None
    """All of the pull but unpack_s, by containerd's spans; with it about pull_s."""
    unpack_s: float | None = None
    """At least one layer was unpacked."""
    overlap_s: float | None = None
    """The part of unpack_s in which something was fetched too."""
    read_bytes: int | None = Field(default=None, ge=0, le=2**62)
    """That the pod read of its image; the next fields are None too where the study reads none."""
    reading_s: float | None = None
    """Listing the image's files and reading them."""
    read_10_s: float | None = None
    """From the start of reading until a tenth of the bytes was read, by the node's kernel."""
    read_50_s: float | None = None
    read_100_s: float | None = None
    sources: dict[str, list[Source]]
    """For Pulling, Pulled, Created, Started: which sources saw it."""
    phases: CellPhases
