"""Records of a small run, made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from experiment.run_folder import RunFolder
from schema.run_records import (
    CellPhases,
    CellRecord,
    Layer,
    Phase,
    PhaseRecord,
    PlannedImage,
    PlannedTrial,
    RunRecord,
    Status,
    TrialPod,
    TrialRecord,
)
from schema.study import Study

BEGUN = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TAGS = ("9-layers-size-48702097-bytes", "1-layers-size-127399102-bytes")


def at(seconds: float) -> datetime:
    return BEGUN + timedelta(seconds=seconds)


def image(tag: str = TAGS[0]) -> PlannedImage:
    number = TAGS.index(tag) if tag in TAGS else 7
    return PlannedImage(
        repository="ghcr.io/a/b",
        tag=tag,
        digest=f"sha256:{number:064x}",
        layers=(Layer(digest=f"sha256:l{number}", size_bytes=1000, diff_id=f"d{number}"),),
    )


def layered_image(name: str, *diff_ids: str) -> PlannedImage:
    """An image of layers of 100 bytes each."""
    layers = tuple(
        Layer(digest=f"sha256:{name}-{diff}", size_bytes=100, diff_id=diff) for diff in diff_ids
    )
    return PlannedImage(repository="r/i", tag=name, digest=f"sha256:{name}", layers=layers)


def planned(trial: int = 1, warm: int = 0) -> PlannedTrial:
    return PlannedTrial(trial=trial, repetition=1, image=image(TAGS[trial - 1]), warm_bytes=warm)


def cell(trial: int = 1, node: str = "node-1", **changes: Any) -> CellRecord:
    fields: dict[str, Any] = {
        "run": "a-run",
        "trial": trial,
        "repetition": 1,
        "nodes": 4,
        "reference": image(TAGS[trial - 1]).reference,
        "tag": TAGS[trial - 1],
        "node": node,
        "pod": f"pod-{node}",
        "pod_uid": f"uid-{node}",
        "status": Status.VALID,
        "reason": "",
        "pull_s": 1.5,
        "pull_and_wait_s": 1.5,
        "image_bytes": 1000,
        "warm_bytes": 0,
        "sources": {},
        "phases": CellPhases(),
    }
    return CellRecord(**(fields | changes))


def trial_record(trial: int, nodes: int) -> TrialRecord:
    begin = 100 + 10 * trial
    return TrialRecord(
        trial=trial,
        repetition=1,
        reference=image(TAGS[trial - 1]).reference,
        job=f"a-run-t00{trial}-a1",
        namespace="pull-study",
        pods=tuple(
            TrialPod(index=n, node=f"node-{n + 1}", pod=f"pod-{n}", uid=f"uid-{n}")
            for n in range(nodes)
        ),
        staged_at=at(begin - 5),
        released_at=at(begin),
        first_bound_at=at(begin + 0.1),
        all_bound_at=at(begin + 0.2),
        last_finished_at=at(begin + 5),
    )


def run_record(**changes: Any) -> RunRecord:
    study = Study.model_validate(
        {"name": "s", "images": [{"repository": "ghcr.io/a/b", "tags": list(TAGS)}]}
    )
    fields: dict[str, Any] = {
        "run_id": "a-run",
        "started_at": BEGUN,
        "stack": "size-4",
        "study": study,
        "study_file": "s.yaml",
        "seed": 1,
        "trials": (planned(1), planned(2)),
    }
    return RunRecord(**(fields | changes))


def fill(folder: RunFolder, cells: list[CellRecord], nodes: int = 4, **changes: Any) -> None:
    """A run of two trials that ended, with these cells."""
    folder.write_run(run_record(**changes))
    for phase, begin, end in (
        (Phase.PREFLIGHT, 0, 2),
        (Phase.PROVISION, 2, 100),
        (Phase.MEASURE, 100, 130),
        (Phase.TEARDOWN, 130, 190),
    ):
        folder.add(PhaseRecord(phase=phase, started_at=at(begin), ended_at=at(end)))
    for trial in (1, 2):
        folder.add(trial_record(trial, nodes))
    folder.add(*cells)
