"""Makes event files of a study of any size, in the shape that a real exporter printed.

For benchmarks and for tests of scale: a line has the fields and about the length of the recorded
ones (1.4 kB on average). Nothing here was measured anywhere.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

REPOSITORY = "ghcr.io/converged-computing/container-chonks-run1"
SIZES = (
    48702097, 53049507, 66460665, 86388866, 103513992, 127399102, 158049655, 213665412, 266728773,
    315018606, 387602448, 491514346, 682439577, 1176249324, 2770722493, 6836726027, 10902729561,
    14968733095, 19034736629,
)  # fmt: skip
LAYERS = (9, 125)
IMAGES = tuple(
    f"{REPOSITORY}:{layers}-layers-size-{size}-bytes" for size in SIZES for layers in LAYERS
)
"""The 38 images of the original study's second test run."""

START = datetime(2024, 11, 10, 6, 48, tzinfo=UTC)
_NOISE_PER_POD = 1.7
"""Events of other pods, of nodes and of controllers, beside the six of each pull."""


def write_events(path: Path, nodes: int, images: int = len(IMAGES), seed: int = 7) -> int:
    """Write a study of this many nodes and images; return the number of lines.

    More images than IMAGES has are salted copies of them.
    """
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for line in event_lines(nodes, images, seed):
            file.write(line)
            count += 1
    return count


def event_lines(nodes: int, images: int = len(IMAGES), seed: int = 7) -> Iterator[str]:
    """The lines of such a file, with their ends."""
    random = Random(seed)  # noqa: S311 (data to measure speed with)
    names = [
        f"gke-test-cluster-{nodes}-default-pool-{index:08x}-x{index:03d}" for index in range(nodes)
    ]
    at = START
    for turn in range(images):
        image = IMAGES[turn % len(IMAGES)]
        if turn >= len(IMAGES):
            image += f"-r{turn // len(IMAGES)}"
        job_uid = _uid(random)
        size = int(image.rsplit("-layers-size-", 1)[1].partition("-")[0])
        slowest = 0.0
        for index, node in enumerate(names):
            seconds = round(0.4 + size / 160e6 * random.uniform(0.93, 1.12), 3)
            slowest = max(slowest, seconds)
            yield from _pod(
                random, image, node, index=index, job_uid=job_uid, at=at, seconds=seconds
            )
        at += timedelta(seconds=slowest + 12)
        yield _line(
            random,
            "Job",
            "container-pull",
            job_uid,
            "",
            "Completed",
            "Job completed",
            at,
            job_uid,
            0,
        )
        at += timedelta(seconds=6)


def _pod(
    random: Random,
    image: str,
    node: str,
    *,
    index: int,
    job_uid: str,
    at: datetime,
    seconds: float,
) -> Iterator[str]:
    pod = f"container-pull-{index}-{random.getrandbits(25):05x}"[:40]
    pod_uid = _uid(random)
    begun = at + timedelta(seconds=random.uniform(0.2, 0.9))
    ended = begun + timedelta(seconds=seconds)
    minutes, rest = divmod(seconds, 60)
    text = f"{int(minutes)}m{rest:.3f}s" if minutes else f"{seconds:.3f}s"
    pulled = (
        f'Successfully pulled image "{image}" in {text} ({text} including waiting). '
        "Image size: 3369495 bytes."
    )
    steps = (
        ("Scheduled", f"Successfully assigned default/{pod} to {node}", at),
        ("Pulling", f'Pulling image "{image}"', begun),
        ("Pulled", pulled, ended),
        ("Created", "Created container container-pull", ended + timedelta(milliseconds=25)),
        ("Started", "Started container container-pull", ended + timedelta(milliseconds=120)),
    )
    yield _line(random, "Job", "container-pull", job_uid, "", "SuccessfulCreate",
                f"Created pod: {pod}", at, job_uid, 0)  # fmt: skip
    for reason, message, when in steps:
        host = "" if reason == "Scheduled" else node
        yield _line(random, "Pod", pod, pod_uid, host, reason, message, when, job_uid, index)
    noise = int(_NOISE_PER_POD + random.random())
    for _ in range(noise):
        yield _line(random, "Node", node, node, node, "NodeHasSufficientMemory",
                    f"Node {node} status is now: NodeHasSufficientMemory", at, "", 0)  # fmt: skip


def _uid(random: Random) -> str:
    text = f"{random.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _line(  # noqa: PLR0917 (one field of an event each)
    random: Random,
    kind: str,
    name: str,
    uid: str,
    host: str,
    reason: str,
    message: str,
    at: datetime,
    job_uid: str,
    index: int,
) -> str:
    clock = int(at.timestamp() * 1e6) * 1000 + random.randrange(1000)
    second = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    component = "kubelet" if host else ("job-controller" if kind == "Job" else "default-scheduler")
    labels = {
        "batch.kubernetes.io/controller-uid": job_uid,
        "batch.kubernetes.io/job-completion-index": str(index),
        "batch.kubernetes.io/job-name": "container-pull",
        "controller-uid": job_uid,
        "job-name": "container-pull",
    }
    event = {
        "metadata": {
            "name": f"{name}.{clock:x}",
            "namespace": "default",
            "uid": _uid(random),
            "resourceVersion": "2249",
            "creationTimestamp": second,
        },
        "reason": reason,
        "message": message,
        "source": {"component": component, "host": host} if host else {"component": component},
        "firstTimestamp": second,
        "lastTimestamp": second,
        "count": 1,
        "type": "Normal",
        "eventTime": None,
        "reportingComponent": component,
        "reportingInstance": host,
        "clusterName": "",
        "involvedObject": {
            "kind": kind,
            "namespace": "default",
            "name": name,
            "uid": uid,
            "apiVersion": "batch/v1" if kind == "Job" else "v1",
            "resourceVersion": "3853",
            **({"fieldPath": "spec.containers{container-pull}"} if kind == "Pod" and host else {}),
            **({"labels": labels} if job_uid else {}),
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": "container-pull",
                    "uid": job_uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "deleted": False,
        },
    }
    return json.dumps(event, separators=(",", ":")) + "\n"
