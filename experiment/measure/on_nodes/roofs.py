"""Measures how fast each node does one part of a pull alone: its roofs.

One privileged pod a node, all released at once, runs measure_roofs.sh. What a node cannot measure
has no rate and a reason; nothing of it ends a run.
"""

import json
from collections.abc import Callable, Iterable
from importlib.resources import files

from experiment.measure.job_manifest import roofs_job
from experiment.measure.pods import PodState
from experiment.measure.staged_jobs import StagedJobs
from schema.run_records import PlannedImage, RoofRecord

DEADLINE_S = 120
_GRACE_S = 30
_SCRIPT = files("experiment.measure.on_nodes").joinpath("measure_roofs.sh").read_text("utf-8")


def measure_roofs(
    jobs: StagedJobs,
    tool: PlannedImage,
    images: Iterable[PlannedImage],
    *,
    run_id: str,
    attempt: int,
    progress: Callable[[list[PodState]], None],
) -> tuple[RoofRecord, ...]:
    """Let every node measure its roofs; return a record of each.

    Args:
        jobs: of the measured nodes.
        tool: image that the pods run.
        images: of the study; their largest layer is received.
        run_id: labels and names what is created.
        attempt: which one of the run this is.
        progress: called with the pods.

    Raises:
        MeasureError: the pods were not created.
    """
    job = roofs_job(
        run_id=run_id,
        attempt=attempt,
        nodes=len(jobs.nodes),
        image=tool.reference,
        script=_SCRIPT,
        blob=largest_layer(images),
        deadline_s=DEADLINE_S,
    )
    pods = jobs.run(job, DEADLINE_S + _GRACE_S, progress)
    return tuple(read_roofs(node, pods.get(node)) for node in jobs.nodes)


def largest_layer(images: Iterable[PlannedImage]) -> tuple[str, int]:
    """Return reference (repository@digest) and bytes of the largest layer; "", 0 without any."""
    layers = (
        (layer.size_bytes, f"{image.source}@{layer.digest}")
        for image in images
        for layer in image.layers
    )
    size, reference = max(layers, default=(0, ""))
    return reference, size


def read_roofs(node: str, pod: PodState | None) -> RoofRecord:
    """Read what a node's pod reported in its termination message."""
    if pod is None or pod.phase != "Succeeded":
        return RoofRecord(node=node, note=f"the pod failed: {pod.failure if pod else 'missing'}")
    try:
        said = json.loads(pod.message)
        rates = {
            f"{part}_bytes_per_s": float(said[part])
            for part in ("unpack", "write", "receive")
            if said.get(part)
        }
        return RoofRecord(node=node, note=str(said.get("note", "")), **rates)
    except (TypeError, ValueError, AttributeError):
        return RoofRecord(node=node, note=f"the pod reported no rates: {pod.message[:100]!r}")
