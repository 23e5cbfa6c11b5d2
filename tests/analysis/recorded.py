"""Recorded clusters, made in code: events of the shapes that real ones printed, and run folders."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from schema.run_records import (
    CellPhases,
    CellRecord,
    EventRecord,
    Layer,
    NodeStatsRecord,
    Phase,
    PhaseRecord,
    PlannedImage,
    PlannedTrial,
    Rehearsal,
    RunRecord,
    Source,
    Status,
    TrialPod,
    TrialRecord,
)
from schema.stack_outputs import StackOutputs
from schema.study import ImageSet, Study

START = datetime(2024, 11, 10, 6, 48, tzinfo=UTC)
REPOSITORY = "ghcr.io/converged-computing/container-chonks-run1"
SIZES = (1176249324, 6836726027, 19034736629)
IMAGES = tuple(f"{REPOSITORY}:9-layers-size-{size}-bytes" for size in SIZES)

Json = dict[str, Any]


def uid(*parts: object) -> str:
    """A uid that depends on what it is for alone."""
    return str(uuid5(NAMESPACE_OID, "/".join(map(str, parts))))


def rfc3339(at: datetime) -> str:
    """As the API server prints it, in whole seconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def nanoseconds(at: datetime) -> int:
    """Since 1970."""
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


@dataclass(frozen=True)
class Pod:
    """A pod of a Job, bound to a node."""

    name: str
    node: str
    job: str = "container-pull"
    job_uid: str = ""
    index: int = 0
    namespace: str = "default"

    @property
    def uid(self) -> str:
        return uid(self.namespace, self.name, self.job_uid)


def event(
    pod: Pod, reason: str, message: str, at: datetime, *, host: bool = True, container: bool = True
) -> Json:
    """An event about a pod, as kubernetes-event-exporter prints it."""
    hexed = f"{nanoseconds(at):016x}"
    return {
        "metadata": {
            "name": f"{pod.name}.{hexed}",
            "namespace": pod.namespace,
            "uid": uid(pod.uid, reason, hexed),
            "resourceVersion": "2249",
            "creationTimestamp": rfc3339(at),
        },
        "reason": reason,
        "message": message,
        "source": {"component": "kubelet", "host": pod.node}
        if host
        else {"component": "default-scheduler"},
        "firstTimestamp": rfc3339(at),
        "lastTimestamp": rfc3339(at),
        "count": 1,
        "type": "Normal",
        "eventTime": None,
        "reportingComponent": "kubelet" if host else "default-scheduler",
        "reportingInstance": pod.node if host else "",
        "involvedObject": {
            "kind": "Pod",
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
            "apiVersion": "v1",
            **({"fieldPath": "spec.containers{container-pull}"} if container else {}),
            "labels": {
                "batch.kubernetes.io/controller-uid": pod.job_uid,
                "batch.kubernetes.io/job-completion-index": str(pod.index),
                "batch.kubernetes.io/job-name": pod.job,
            },
        },
    }


def scheduled(pod: Pod, at: datetime) -> Json:
    message = f"Successfully assigned {pod.namespace}/{pod.name} to {pod.node}"
    return event(pod, "Scheduled", message, at, host=False, container=False)


def pulled_message(image: str, pull: str, wait: str | None = None) -> str:
    return (
        f'Successfully pulled image "{image}" in {pull} ({wait or pull} including waiting). '
        "Image size: 3369495 bytes."
    )


def pull_events(pod: Pod, image: str, at: datetime, pull_s: float) -> list[Json]:
    """All that one pod's cold pull leaves behind."""
    begun = at + timedelta(milliseconds=400)
    ended = begun + timedelta(seconds=pull_s)
    return [
        scheduled(pod, at),
        event(pod, "Pulling", f'Pulling image "{image}"', begun),
        event(pod, "Pulled", pulled_message(image, go_seconds(pull_s)), ended),
        event(
            pod, "Created", "Created container container-pull", ended + timedelta(milliseconds=30)
        ),
        event(
            pod, "Started", "Started container container-pull", ended + timedelta(milliseconds=130)
        ),
    ]


def go_seconds(seconds: float) -> str:
    """A duration of at least a second as Go prints it, to the millisecond."""
    minutes, rest = divmod(round(seconds, 3), 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{int(minutes)}m{text}" if minutes else text


def job_completed(job: str, job_uid: str, at: datetime, namespace: str = "default") -> Json:
    hexed = f"{nanoseconds(at):016x}"
    return {
        "metadata": {"name": f"{job}.{hexed}", "namespace": namespace, "uid": uid(job_uid, hexed)},
        "reason": "Completed",
        "message": "Job completed",
        "source": {"component": "job-controller"},
        "firstTimestamp": rfc3339(at),
        "lastTimestamp": rfc3339(at),
        "count": 1,
        "involvedObject": {"kind": "Job", "namespace": namespace, "name": job, "uid": job_uid},
    }


def node_event(node: str, reason: str, at: datetime) -> Json:
    hexed = f"{nanoseconds(at):016x}"
    return {
        "metadata": {
            "name": f"{node}.{hexed}",
            "namespace": "default",
            "uid": uid(node, reason, hexed),
        },
        "reason": reason,
        "message": f"Node {node} status is now: {reason}",
        "source": {"component": "kubelet", "host": node},
        "firstTimestamp": rfc3339(at),
        "lastTimestamp": rfc3339(at),
        "count": 1,
        "involvedObject": {"kind": "Node", "name": node, "uid": node},
    }


def pull_seconds(image: str, node: int, nodes: int) -> float:
    """A plausible duration: 160 MB/s, somewhat different from node to node."""
    size = int(image.rsplit("-", 2)[1])
    return round(size / 160e6 * (1 + 0.01 * node + 0.0005 * nodes), 3)


def node_names(nodes: int) -> list[str]:
    return [f"gke-test-cluster-{nodes}-{index:04d}" for index in range(nodes)]


def study_events(nodes: int, images: Sequence[str] = IMAGES) -> list[Json]:
    """A faultless study: one Job an image, one pod a node."""
    events: list[Json] = []
    at = START
    for image in images:
        job_uid = uid("job", nodes, image)
        slowest = 0.0
        for index, node in enumerate(node_names(nodes)):
            pod = Pod(f"container-pull-{index}-{job_uid[:5]}", node, job_uid=job_uid, index=index)
            seconds = pull_seconds(image, index, nodes)
            slowest = max(slowest, seconds)
            events += pull_events(pod, image, at, seconds)
        at += timedelta(seconds=slowest + 10)
        events.append(job_completed("container-pull", job_uid, at))
        at += timedelta(seconds=5)
    return events


def lines(events: Iterable[Json]) -> str:
    return "".join(json.dumps(item, separators=(",", ":")) + "\n" for item in events)


def write_study(
    root: Path, nodes: Iterable[int] = (4, 8), images: Sequence[str] = IMAGES, run: str = "run1"
) -> Path:
    """The first study's layout: ROOT/run1/NODES/events-size-NODES-....json and nodes-....json."""
    for count in nodes:
        folder = root / run / str(count)
        folder.mkdir(parents=True)
        (folder / f"events-size-{count}-1731221311.json").write_text(
            lines(study_events(count, images))
        )
        items = [
            {
                "metadata": {
                    "name": name,
                    "labels": {"node.kubernetes.io/instance-type": "n1-standard-16"},
                }
            }
            for name in node_names(count)
        ]
        (folder / f"nodes-{count}-1731221298.json").write_text(json.dumps({"items": items}))
    return root


def planned(image: str) -> PlannedImage:
    repository, tag = image.rsplit(":", 1)
    layers = tuple(
        Layer(
            digest=f"sha256:{uid(image, i)}", size_bytes=370_000, diff_id=f"sha256:{uid(i, image)}"
        )
        for i in range(9)
    )
    return PlannedImage(repository=repository, tag=tag, digest=f"sha256:{'a' * 64}", layers=layers)


def write_run_folder(
    root: Path,
    run_id: str = "run1-size-4",
    nodes: int = 4,
    rehearsal: Rehearsal | None = None,
    spoilt: Status | None = None,
) -> Path:
    """A run of this project; with `spoilt`, the last cell of each trial has that status."""
    folder = root / run_id
    folder.mkdir(parents=True)
    names = node_names(nodes)
    record = run_record(nodes, run_id, rehearsal)
    (folder / "run.json").write_text(record.model_dump_json(indent=1))
    (folder / "nodes.json").write_text(
        json.dumps({"items": [{"metadata": {"name": name, "labels": {}}} for name in names]})
    )
    _write(folder / "phases.jsonl", _phases(record))
    done = [_trial(record, planned_trial, names, spoilt) for planned_trial in record.trials]
    _write(folder / "trials.jsonl", [trial for trial, _, _ in done])
    _write(folder / "ledger.jsonl", [cell for _, cells, _ in done for cell in cells])
    events = [item for _, _, items in done for item in items]
    for source, file in (
        (Source.WATCH, "events.watch.jsonl"),
        (Source.EXPORTER, "events.logging.jsonl"),
    ):
        _write(
            folder / file,
            [EventRecord(source=source, received_at=START, event=item) for item in events],
        )
    return folder


def run_record(
    nodes: int, run_id: str = "run1-size-4", rehearsal: Rehearsal | None = None
) -> RunRecord:
    """run.json of a run of IMAGES, once each."""
    trials = tuple(
        PlannedTrial(trial=number, repetition=1, image=planned(image), warm_bytes=0)
        for number, image in enumerate(IMAGES, 1)
    )
    return RunRecord(
        run_id=run_id,
        started_at=START - timedelta(seconds=400),
        stack=f"size-{nodes}",
        study=Study(
            name="run1",
            images=(ImageSet(repository=REPOSITORY, tags=tuple(t.image.tag for t in trials)),),
        ),
        study_file="run1.yaml",
        seed=7,
        trials=trials,
        versions={"kubelet": "v1.33.0"},
        rehearsal=rehearsal,
        outputs=outputs(nodes),
    )


def outputs(nodes: int) -> StackOutputs:
    return StackOutputs.model_construct(
        project="p",
        location="us-central1-a",
        zone="us-central1-a",
        cluster_name=f"size-{nodes}",
        node_count=nodes,
        machine_type="n1-standard-16",
        kubeconfig="",
        exporter_namespace="monitoring",
        exporter_deployment="exporter",
        log_filter="",
        archive_bucket="b",
    )


def _phases(record: RunRecord) -> Iterator[PhaseRecord]:
    at = record.started_at
    for phase, seconds in zip(Phase, (5, 240, 60, 300, 30, 120), strict=True):
        yield PhaseRecord(phase=phase, started_at=at, ended_at=at + timedelta(seconds=seconds))
        at += timedelta(seconds=seconds)


def _trial(
    record: RunRecord, trial: PlannedTrial, names: Sequence[str], spoilt: Status | None
) -> tuple[TrialRecord, list[CellRecord], list[Json]]:
    at = START + timedelta(seconds=200 * (trial.trial - 1))
    image = trial.image.reference
    cells, pods, events = [], [], []
    for index, node in enumerate(names):
        job = f"trial-{trial.trial}"
        pod = Pod(f"{job}-{index}-abcde", node, job, uid(record.run_id, job), index, "pull-study")
        seconds = pull_seconds(f"{REPOSITORY}:{trial.image.tag}", index, len(names))
        mine = pull_events(pod, image, at, seconds)
        bad = spoilt is not None and index == len(names) - 1
        events += mine[:1] if bad else mine
        pods.append(TrialPod(index=index, node=node, pod=pod.name, uid=pod.uid))
        cells.append(_cell(record, trial, pod, at, seconds=seconds, spoilt=spoilt if bad else None))
    end = at + timedelta(seconds=180)
    return (
        TrialRecord(
            trial=trial.trial,
            repetition=1,
            reference=image,
            job=f"trial-{trial.trial}",
            namespace="pull-study",
            pods=tuple(pods),
            staged_at=at - timedelta(seconds=9),
            released_at=at - timedelta(seconds=1),
            first_bound_at=at,
            all_bound_at=at,
            last_finished_at=end,
            complete_at=end,
        ),
        cells,
        events,
    )


def _cell(
    record: RunRecord,
    trial: PlannedTrial,
    pod: Pod,
    at: datetime,
    *,
    seconds: float,
    spoilt: Status | None,
) -> CellRecord:
    begun = at + timedelta(milliseconds=400)
    ended = begun + timedelta(seconds=seconds)
    started = ended + timedelta(milliseconds=130)
    phases = CellPhases(
        released_at=at - timedelta(seconds=1),
        scheduled_at=at,
        pulling_at=begun,
        pulled_at=ended,
        created_at=ended + timedelta(milliseconds=30),
        started_at=started,
        finished_at=(started + timedelta(seconds=1)).replace(microsecond=0),
        job_complete_at=at + timedelta(seconds=180),
    )
    return CellRecord(
        run=record.run_id,
        trial=trial.trial,
        repetition=trial.repetition,
        nodes=record.outputs.node_count if record.outputs else 0,
        reference=trial.image.reference,
        tag=trial.image.tag,
        node=pod.node,
        pod=pod.name,
        pod_uid=pod.uid,
        status=spoilt or Status.VALID,
        reason=f"{spoilt} in this test" if spoilt else "",
        pull_s=None if spoilt else seconds,
        pull_and_wait_s=None if spoilt else seconds,
        image_bytes=None if spoilt else 3369495,
        warm_bytes=0,
        sources={},
        phases=CellPhases(released_at=phases.released_at, scheduled_at=at) if spoilt else phases,
    )


def _write(path: Path, records: Iterable[Any]) -> None:
    path.write_text("".join(record.model_dump_json() + "\n" for record in records))


def add_records(folder: Path, name: str, records: Iterable[Any]) -> None:
    """Append records to a file of a run's folder."""
    with (folder / name).open("a", encoding="utf-8") as file:
        file.writelines(record.model_dump_json() + "\n" for record in records)


def node_stats(folder: Path, received: int = 3_400_000, written: int = 2_000_000_000) -> None:
    """What every node counted just before and after every trial of a run: the same each time."""
    records = []
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    nodes = json.loads((folder / "nodes.json").read_text())["items"]
    for trial in trials:
        moments = (("before", trial["released_at"]), ("after", trial["last_finished_at"]))
        for node in nodes:
            for turn, (moment, at) in enumerate(moments):
                done = 2 * trial["trial"] + turn
                records.append(
                    NodeStatsRecord(
                        trial=trial["trial"],
                        moment=moment,
                        node=node["metadata"]["name"],
                        at=at,
                        received_bytes=1000 + done * received,
                        written_bytes=done * written,
                        image_disk_used_bytes=done * written // 2,
                        disk_used_bytes=7,
                    )
                )
    add_records(folder, "nodestats.jsonl", records)
