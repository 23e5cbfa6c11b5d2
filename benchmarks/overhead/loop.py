"""The original study's loop, written anew: one image after another, by kubectl.

Apply an Indexed Job, sleep 5 s, wait for its condition `complete`, delete it and wait for that
(container-chonks, experiments/pulling/run-experiment.py and job-template.yaml). Added to its Job is
only what puts the pods on the measured nodes, which are tainted here. It is what the runner is
compared with, so nothing of it is mended: no placement, no staging, no look at failures.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from schema.names import MEASURED_LABEL, MEASURED_TOLERATIONS

JOB = "container-pull"

_SLEEP_S = 5
_WAIT_S = 1200


@dataclass(frozen=True, slots=True)
class LoopCost:
    """What the loop took."""

    begun: float
    """Seconds of the epoch, as all times here."""
    ended: float
    cpu_s: float
    """Of all kubectl processes and their credential plugins, user and system."""
    peak_mb: float
    """Resident memory of the largest kubectl."""


def run_loop(
    kubectl: Path, kubeconfig: Path, images: Sequence[str], nodes: int, command: Sequence[str]
) -> LoopCost:
    """Pull each image once on a cluster of this many nodes.

    Raises:
        CalledProcessError: kubectl failed, or a Job was not complete after 1200 s.
    """
    environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
    begun = time.time()
    used = [_turn(kubectl, environment, job_of(image, nodes, command)) for image in images]
    return LoopCost(
        begun, time.time(), sum(cpu_s for cpu_s, _ in used), max(peak for _, peak in used)
    )


def job_of(image: str, nodes: int, command: Sequence[str]) -> dict[str, object]:
    """The original's Job template; toleration and selector are this project's measured pool."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": JOB},
        "spec": {
            "completions": nodes,
            "parallelism": nodes,
            "completionMode": "Indexed",
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "tolerations": [dict(each) for each in MEASURED_TOLERATIONS],
                    "nodeSelector": {MEASURED_LABEL: "true"},
                    "containers": [{"name": JOB, "image": image, "command": list(command)}],
                }
            },
        },
    }


def _turn(
    kubectl: Path, environment: Mapping[str, str], job: Mapping[str, object]
) -> tuple[float, float]:
    """CPU seconds and largest resident megabytes of one image's kubectl commands."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(dict(job), file)
        file.flush()
        applied = _kubectl(kubectl, environment, "apply", "-f", file.name)
        time.sleep(_SLEEP_S)
        waited = _kubectl(
            kubectl,
            environment,
            *("wait", "--for=condition=complete", f"job/{JOB}", f"--timeout={_WAIT_S}s"),
        )
        deleted = _kubectl(kubectl, environment, "delete", "-f", file.name, "--wait=true")
    used = (applied, waited, deleted)
    return sum(cpu_s for cpu_s, _ in used), max(peak for _, peak in used)


def _kubectl(kubectl: Path, environment: Mapping[str, str], *arguments: str) -> tuple[float, float]:
    command = [str(kubectl), *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
