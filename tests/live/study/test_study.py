"""A whole study on four real nodes, as a user runs it: finished, interrupted, killed, resumed."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from experiment.run_folder import RunFolder
from schema.errors import ExitCode
from schema.image_tag import find_tag
from schema.run_records import Phase, Source, Status
from tests.live.harness import LONGEST_S, ROOT, STACK_FILES, Place, needs_real_nodes, place_in

IMAGES, NODES = 6, 4
SMOKE = ROOT / "studies" / "smoke.yaml"
RUN = ("--stack", "size-4", "--study", str(SMOKE), "--rehearse", "--yes")

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(2 * LONGEST_S),
    needs_real_nodes,
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_in(tmp_path_factory.mktemp("study")) as place:
        yield place


@pytest.fixture(scope="module")
def finished(place: Place) -> RunFolder:
    """An undisturbed run, whose nodes are measured first and whose pods read their images."""
    study = place.folder / "smoke.yaml"
    study.write_text(f"{SMOKE.read_text()}roofs: true\nread: [0.1, 0.5, 1.0]\n")
    run = (*RUN[:3], str(study), *RUN[4:])
    output = place.succeed("experiment", "run", *run, "--run-id", "whole")
    assert "24 of 24 cells of a rehearsal are valid" in output
    return place.record("whole")


def test_every_cell_is_valid_and_nothing_is_left(place: Place, finished: RunFolder) -> None:
    cells = finished.cells()
    assert Counter(cell.status for cell in cells) == {Status.VALID: IMAGES * NODES}
    assert {(cell.trial, cell.node) for cell in cells} == {
        (trial, node) for trial in range(1, IMAGES + 1) for node in finished.node_names(1)
    }
    place.expect_nothing_left()


def test_every_node_measured_its_roofs(finished: RunFolder) -> None:
    roofs = finished.read_run().roofs
    assert [roof.node for roof in roofs] == finished.node_names(1)
    for roof in roofs:
        assert not roof.note
        rates = (roof.unpack_bytes_per_s, roof.write_bytes_per_s, roof.receive_bytes_per_s)
        assert all(rate and 1e6 < rate < 1e11 for rate in rates), rates


def test_every_pod_read_its_image_in_shares(finished: RunFolder) -> None:
    for cell in finished.cells():
        claim = find_tag(cell.tag)
        assert claim is not None
        assert cell.read_bytes is not None
        assert cell.read_bytes >= claim.size_bytes / 100
        seconds = (0.0, cell.read_10_s, cell.read_50_s, cell.read_100_s, cell.reading_s)
        known = [one for one in seconds if one is not None]
        assert len(known) == len(seconds)
        assert known == sorted(known)
        assert not [mark for mark in cell.marks if "read" in mark or "files" in mark]
    table = finished.report_dir / "cells.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        ready = [float(row[f"ready_{share}_s"]) for share in (10, 50, 100)]
        assert ready == sorted(ready)
        assert ready[0] > float(row["pulling_s"])
    page = (finished.report_dir / "report.html").read_text("utf-8")
    assert "How soon can an image" in page
    assert "Readiness" in page


def test_each_trial_ran_one_pod_on_every_node(finished: RunFolder) -> None:
    for trial in finished.trials():
        assert [pod.node for pod in trial.pods] == finished.node_names(1)
        assert trial.error is None


def test_all_sources_saw_the_same_events_of_the_pods(finished: RunFolder) -> None:
    seen: dict[Source, set[str]] = {source: set() for source in Source}
    for record in finished.events():
        if record.event["involvedObject"].get("name", "").startswith("whole-t"):
            seen[record.source].add(record.event["metadata"]["uid"])
    assert seen[Source.WATCH] == seen[Source.EXPORTER] == seen[Source.NATIVE]
    assert len(seen[Source.WATCH]) >= IMAGES * NODES * len(
        ("Pulling", "Pulled", "Created", "Started")
    )
    for cell in finished.cells():
        assert all(len(sources) == len(seen) for sources in cell.sources.values())


def test_every_phase_of_a_cell_has_a_time_and_they_are_in_order(finished: RunFolder) -> None:
    for cell in finished.cells():
        phases = cell.phases
        # Of one clock: the kubelet's. The runner shares this machine's clock too.
        steps = [
            phases.released_at,
            phases.scheduled_at,
            phases.pulling_at,
            phases.pulled_at,
            phases.created_at,
            phases.started_at,
            phases.job_complete_at,
        ]
        times = [step for step in steps if step is not None]
        assert len(times) == len(steps)
        assert times == sorted(times)
        assert cell.pull_s is not None
        assert phases.pulled_at is not None
        assert phases.pulling_at is not None
        measured = (phases.pulled_at - phases.pulling_at).total_seconds()
        assert measured == pytest.approx(cell.pull_s, abs=0.25)


def test_all_phases_are_recorded_and_the_record_says_rehearsed(finished: RunFolder) -> None:
    assert [record.phase for record in finished.phases()] == list(Phase)
    record = finished.read_run()
    assert record.rehearsal is not None
    assert (record.rehearsal.nodes, record.rehearsal.scale) == ("real", 0.01)
    assert record.versions["kubernetes"].startswith("v1.")
    assert record.outputs is not None


def test_the_report_is_whole_and_says_that_it_was_a_rehearsal(finished: RunFolder) -> None:
    page = (finished.report_dir / "report.html").read_text("utf-8")
    assert "a rehearsal" in page
    assert re.findall(r"""(?:src|href)=["']?https?:""", page) == []
    with (finished.report_dir / "pulls.csv").open() as file:
        rows = list(csv.DictReader(file))
    wanted = "run file nodes image tag layers image_bytes node pod pull_s pull_and_wait_s"
    assert set(wanted.split()) <= set(rows[0])
    assert [row["status"] for row in rows] == ["valid"] * IMAGES * NODES


def test_no_credential_is_in_the_runs_folder(finished: RunFolder) -> None:
    for path in finished.path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"PRIVATE KEY" not in content, path
            assert b"client-key-data" not in content, path
            assert b"access_token" not in content, path


def test_committed_stack_files_stay_as_they_are(finished: RunFolder) -> None:
    assert {path: path.read_bytes() for path in STACK_FILES} == STACK_FILES
    assert (finished.pulumi_dir / "Pulumi.size-4.yaml").is_file()


@pytest.mark.full
def test_ctrl_c_keeps_what_was_measured_and_the_rest_is_resumed(place: Place) -> None:
    process = place.begin(*RUN, run_id="interrupted", trials=2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    output, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 130, output
    assert "--resume interrupted" in output
    assert "Traceback" not in output
    place.expect_nothing_left()

    folder = place.record("interrupted")
    first = Counter(cell.status for cell in folder.cells())
    assert first.total() == IMAGES * NODES
    assert first[Status.VALID] >= 2 * NODES
    assert set(first) <= {Status.VALID, Status.ABORTED, Status.MISSING_EVENTS}

    resume = ("--resume", "interrupted", "--rehearse", "--yes")
    assert "24 of 24 cells" in place.succeed("experiment", "run", *resume)
    again = {cell.trial for cell in folder.cells() if cell.attempt == 2}
    assert again == {
        cell.trial
        for cell in folder.cells()
        if cell.attempt == 1 and cell.status is not Status.VALID
    }
    place.expect_nothing_left()


def test_a_killed_run_is_resumed_without_losing_a_trial_or_leaving_a_cluster(place: Place) -> None:
    process = place.begin(*RUN, run_id="killed", trials=2)
    process.kill()
    process.communicate(timeout=60)
    recorded = {trial.trial for trial in place.record("killed").trials()}

    resume = ("--resume", "killed", "--rehearse", "--yes")
    assert "24 of 24 cells" in place.succeed("experiment", "run", *resume)
    attempts = {trial.trial: trial.attempt for trial in place.record("killed").trials()}
    first = {trial for trial, attempt in attempts.items() if attempt == 1}
    assert first
    assert first <= recorded
    place.expect_nothing_left()


def test_the_literal_commands_bring_a_cluster_up_and_down(place: Place) -> None:
    script = f"""set -e
        cd {ROOT}
        pulumi stack init size-4
        pulumi preview --stack size-4
        pulumi up --yes --skip-preview --stack size-4
        pulumi up --yes --skip-preview --stack size-4 --expect-no-changes
        pulumi stack output kubeconfig --stack size-4 > $PULUMI_HOME/kubeconfig
        pulumi destroy --yes --skip-preview --stack size-4
    """
    place.succeed("rehearsal", "shell", "--", "bash", "-c", script)
    assert {path: path.read_bytes() for path in STACK_FILES} == STACK_FILES
    place.expect_nothing_left()


def test_an_image_that_cannot_be_made_ends_the_run_before_its_cluster(place: Place) -> None:
    study = place.folder / "unknown.yaml"
    study.write_text("name: u\nimages: [{repository: ghcr.io/a/b, tags: [latest]}]\n")
    arguments = ("run", "--stack", "size-4", "--study", str(study), "--rehearse", "--yes")
    code, output = place.run("experiment", *arguments)
    assert code == ExitCode.IMAGE_MISSING, output
    assert "ghcr.io/a/b:latest cannot be read from its registry" in output
    place.expect_nothing_left()


def test_a_rehearsal_is_not_resumed_as_a_real_run(place: Place, finished: RunFolder) -> None:
    code, output = place.run("experiment", "run", "--resume", finished.path.name, "--yes")
    assert code == ExitCode.USAGE, output
    assert "must be resumed as one" in output
    assert json.loads((finished.path / "run.json").read_text())["rehearsal"]["scale"] == 0.01
