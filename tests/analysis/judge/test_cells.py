"""What becomes of each cell, through files and tables: one recorded trouble a test."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from analysis.tables import open_tables
from tests.analysis.recorded import (
    IMAGES,
    START,
    Json,
    Pod,
    event,
    job_completed,
    lines,
    node_event,
    pull_events,
    pulled_message,
    scheduled,
    uid,
)

IMAGE = IMAGES[0]
JOB = uid("job")
NODES = ("node-a", "node-b")


def pod(node: str = "node-a", index: int = 0, job_uid: str = JOB, suffix: str = "abcde") -> Pod:
    return Pod(f"container-pull-{index}-{suffix}", node, job_uid=job_uid, index=index)


def later(seconds: float) -> Any:
    return START + timedelta(seconds=seconds)


Cells = Callable[[list[Json]], dict[str, dict[str, Any]]]


@pytest.fixture
def cells(tmp_path: Path) -> Cells:
    """Write events of a cluster of two nodes and give its cells by node."""

    def make(events: list[Json]) -> dict[str, dict[str, Any]]:
        folder = tmp_path / "run1" / "2"
        folder.mkdir(parents=True)
        both = [node_event(node, "NodeReady", later(-900)) for node in NODES]
        (folder / "events-size-2-1.json").write_text(lines([*both, *events]))
        with open_tables([folder]) as tables:
            return {row["node"]: row for row in tables.rows("SELECT * FROM cells")}

    return make


def test_one_real_pull_is_valid_and_its_phases_are_timed(cells: Cells) -> None:
    events = [*pull_events(pod(), IMAGE, START, 7.1), job_completed("j", JOB, later(20))]
    found = cells(events)["node-a"]
    assert (found["status"], found["reason"]) == ("valid", "")
    assert found["pull_s"] == 7.1
    assert found["waiting_s"] == pytest.approx(0.4)
    assert found["pulling_s"] == pytest.approx(7.1)
    assert found["creating_s"] == pytest.approx(0.03)
    assert found["starting_s"] == pytest.approx(0.1)
    assert found["started_to_complete_s"] == pytest.approx(20 - 7.63)
    assert found["running_s"] is None


def test_a_node_without_a_pod_is_a_row_with_a_reason(cells: Cells) -> None:
    found = cells(pull_events(pod(), IMAGE, START, 7.1))["node-b"]
    assert found["status"] == "missing-events"
    assert found["reason"] == "no pod of this image ran on this node (1 ran on others)"
    assert found["pull_s"] is None


def test_two_pods_on_a_node_that_both_pull_are_repeated(cells: Cells) -> None:
    second = pod(index=1, suffix="fghij")
    events = pull_events(pod(), IMAGE, START, 7.1) + pull_events(second, IMAGE, START, 7.3)
    found = cells(events)["node-a"]
    assert found["status"] == "repeated"
    assert found["pull_s"] is None


def test_a_second_pod_that_finds_the_image_does_no_harm(cells: Cells) -> None:
    second = pod(index=1, suffix="fghij")
    message = f'Container image "{IMAGE}" already present on machine'
    events = [
        *pull_events(pod(), IMAGE, START, 7.1),
        scheduled(second, later(9)),
        event(second, "Pulled", message, later(9.5)),
    ]
    assert cells(events)["node-a"]["status"] == "valid"


def test_cached(cells: Cells) -> None:
    message = f'Container image "{IMAGE}" already present on machine'
    found = cells([scheduled(pod(), START), event(pod(), "Pulled", message, later(1))])["node-a"]
    assert found["status"] == "cached"


def test_pulling_without_an_end(cells: Cells) -> None:
    found = cells(pull_events(pod(), IMAGE, START, 7.1)[:2])["node-a"]
    assert (found["status"], found["reason"]) == (
        "missing-events",
        "Pulling was recorded but no end of the pull",
    )


def test_pulled_without_its_pulling_begins_at_its_end_less_its_duration(cells: Cells) -> None:
    events = [e for e in pull_events(pod(), IMAGE, START, 7.1) if e["reason"] != "Pulling"]
    found = cells(events)["node-a"]
    assert found["status"] == "missing-events"
    assert found["reason"] == "Pulled was recorded without Pulling"
    assert found["pulling_s"] == pytest.approx(7.1)


def test_a_pod_all_of_whose_pull_events_are_lost_is_known_by_its_job(cells: Cells) -> None:
    other = pod("node-b", 1, suffix="fghij")
    events = [*pull_events(pod(), IMAGE, START, 7.1), scheduled(other, START)]
    found = cells(events)["node-b"]
    assert found["status"] == "missing-events"
    assert found["reason"].startswith("1 pods were bound to this node")


FAILURE = f'Failed to pull image "{IMAGE}": failed to extract layer: no space left on device'


def test_a_pull_that_only_fails(cells: Cells) -> None:
    events = [*pull_events(pod(), IMAGE, START, 7.1)[:2], event(pod(), "Failed", FAILURE, later(5))]
    found = cells(events)["node-a"]
    assert found["status"] == "failed"
    assert "no space left" in found["reason"]


def test_a_pull_that_fails_first_is_retried(cells: Cells) -> None:
    events = [
        *pull_events(pod(), IMAGE, START, 7.1)[:2],
        event(pod(), "Failed", FAILURE, later(5)),
        event(pod(), "Pulling", f'Pulling image "{IMAGE}"', later(20)),
        event(pod(), "Pulled", pulled_message(IMAGE, "8s"), later(28)),
    ]
    assert cells(events)["node-a"]["status"] == "retried"


def test_a_container_that_cannot_start_has_pulled_all_the_same(cells: Cells) -> None:
    wrong = event(pod(), "Failed", 'Error: exec: "bash": executable file not found', later(9))
    assert cells([*pull_events(pod(), IMAGE, START, 7.1), wrong])["node-a"]["status"] == "valid"


def test_evicted(cells: Cells) -> None:
    evicted = event(
        pod(), "Evicted", "The node had condition: [DiskPressure].", later(5), container=False
    )
    assert cells([*pull_events(pod(), IMAGE, START, 7.1), evicted])["node-a"]["status"] == "evicted"


@pytest.mark.parametrize(
    ("trouble", "at", "over", "status"),
    [
        ("NodeHasDiskPressure", -30, None, "disk-pressure"),
        ("NodeHasDiskPressure", -30, -10, "valid"),
        ("NodeHasDiskPressure", -900, None, "valid"),
        ("NodeHasDiskPressure", -900, 2, "disk-pressure"),
        ("EvictionThresholdMet", 3, None, "disk-pressure"),
        ("FreeDiskSpaceFailed", -299, None, "disk-pressure"),
        ("NodeHasDiskPressure", 60, None, "valid"),
        ("NodeNotReady", 2, None, "node-lost"),
        ("NodeNotReady", -800, None, "node-lost"),
    ],
)
def test_trouble_of_the_node_counts_while_it_lasts(
    cells: Cells, trouble: str, at: float, over: float | None, status: str
) -> None:
    events = [*pull_events(pod(), IMAGE, START, 7.1), node_event("node-a", trouble, later(at))]
    if over is not None:
        events.append(node_event("node-a", "NodeHasNoDiskPressure", later(over)))
    assert cells(events)["node-a"]["status"] == status


def test_trouble_of_another_node_does_no_harm(cells: Cells) -> None:
    events = [
        *pull_events(pod(), IMAGE, START, 7.1),
        node_event("node-b", "NodeNotReady", later(1)),
    ]
    assert cells(events)["node-a"]["status"] == "valid"


def test_a_later_job_that_pulls_again_is_a_repetition_with_warm_layers(tmp_path: Path) -> None:
    folder = tmp_path / "run1" / "1"
    folder.mkdir(parents=True)
    again = pod(job_uid=uid("second"), suffix="fghij")
    events = pull_events(pod(), IMAGE, START, 7.1) + pull_events(again, IMAGE, later(60), 3.1)
    (folder / "events-1.json").write_text(lines(events))
    with open_tables([folder]) as tables:
        rows = tables.rows("SELECT repetition, status, pull_s FROM cells ORDER BY repetition")
        pulls = tables.rows("SELECT repetition, status FROM pulls ORDER BY repetition")
    assert [tuple(row.values()) for row in rows] == [(1, "valid", 7.1), (2, "warm-layers", 3.1)]
    assert [tuple(row.values()) for row in pulls] == [(1, "valid"), (2, "warm-layers")]


def test_a_job_that_only_fails_before_another_spoils_the_cell(cells: Cells) -> None:
    first = pod(job_uid=uid("first"), suffix="fffff")
    events = [
        scheduled(first, later(-60)),
        event(first, "Pulling", f'Pulling image "{IMAGE}"', later(-59)),
        event(first, "Failed", FAILURE, later(-50)),
        *pull_events(pod(), IMAGE, START, 7.1),
    ]
    assert cells(events)["node-a"]["status"] == "retried"


def test_jobs_are_known_from_their_own_events_where_labels_are_missing(tmp_path: Path) -> None:
    events = pull_events(pod(), IMAGE, START, 7.1)
    for item in events:
        del item["involvedObject"]["labels"]
    created = job_completed("container-pull", JOB, later(-1))
    created |= {"reason": "SuccessfulCreate", "message": f"Created pod: {pod().name}"}
    path = tmp_path / "events.json"
    path.write_text(lines([created, *events, job_completed("container-pull", JOB, later(20))]))
    with open_tables([path]) as tables:
        (row,) = tables.rows("SELECT job, outcome FROM pulls")
        (cell,) = tables.rows("SELECT job_complete_at FROM cells")
    assert row["job"] == "container-pull"
    assert cell["job_complete_at"] is not None
