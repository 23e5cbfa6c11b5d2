"""What must be so before a run costs anything.

Each check raises one sentence with its cure. Checks that need the cluster are in the prepare
phase (experiment.run_study).
"""

import shutil
from collections.abc import Sequence

from experiment.errors import PreflightError
from experiment.plan import unpacked_bytes
from schema.run_records import PlannedTrial

IMAGE_GC_SHARE = 0.85
"""The kubelet begins to remove images at this share of the disk (imageGCHighThresholdPercent)."""

SYSTEM_BYTES = 12e9
"""Disk that a GKE node's system and its images take: a COS node reports about 94 of 100 GB as
capacity, and the original study's fresh nodes held a few GB of images."""

_PROGRAMS = {
    "pulumi": "see https://www.pulumi.com/docs/install/, or run make setup",
    "gke-gcloud-auth-plugin": "gcloud components install gke-gcloud-auth-plugin",
}


def check_programs() -> None:
    """The programs that a run calls are on PATH.

    Raises:
        PreflightError: one is missing.
    """
    for program, cure in _PROGRAMS.items():
        if shutil.which(program) is None:
            raise PreflightError(f"{program} is not on PATH, and a run cannot do without it.", cure)


def check_disk(trials: Sequence[PlannedTrial], disk_gb: int) -> None:
    """All images of a run fit on a node's disk without the kubelet removing any.

    An image that is removed in mid-study is a pull that another one's garbage collection disturbs,
    and at disk pressure pods are evicted, as in the original study.

    Args:
        trials: of the run.
        disk_gb: disk of a measured node that images are unpacked to, GB.

    Raises:
        PreflightError: they do not fit.
    """
    images = {trial.image.digest: unpacked_bytes(trial.image) for trial in trials}
    needed = sum(images.values())
    room = disk_gb * 1e9 * IMAGE_GC_SHARE - SYSTEM_BYTES
    if needed > room:
        raise PreflightError(
            f"The images of this study take {needed / 1e9:.0f} GB unpacked and a node has room for "
            f"{max(room, 0) / 1e9:.0f} GB before the kubelet removes images, so pulls would be "
            "disturbed and pods evicted.",
            f"pulumi config set pull-study:diskSizeGb "
            f"{round((needed + SYSTEM_BYTES) / IMAGE_GC_SHARE / 1e9) + 10}, or split the study",
        )
