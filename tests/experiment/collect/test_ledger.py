from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment.collect.ledger import Circumstances, last_attempts, make_ledger
from experiment.collect.merge_events import merge_events
from schema.run_records import CellRecord, EventRecord, NodeRecord, PlannedTrial, Source, Status
from tests.experiment.conftest import NODES, START, Story


def judged(story: Story) -> list[CellRecord]:
    return make_ledger("run", [story.planned], [story.trial], merge_events(story.events), NODES)


def statuses(story: Story) -> list[Status]:
    return [cell.status for cell in judged(story)]


VALID3 = [Status.VALID] * 3


def test_an_undisturbed_trial_is_valid_on_every_node(story: Story) -> None:
    cells = judged(story)
    assert [cell.status for cell in cells] == [Status.VALID] * 4
    assert [cell.node for cell in cells] == list(NODES)
    assert {cell.pull_s for cell in cells} == {1.5}
    assert {cell.image_bytes for cell in cells} == {1_000_000}
    assert all(cell.reason == "" for cell in cells)


def test_phases_carry_the_nanosecond_clock_of_the_events_name(story: Story) -> None:
    phases = judged(story)[0].phases
    assert phases.pulling_at == START + timedelta(seconds=0.2)
    assert phases.pulled_at == START + timedelta(seconds=1.7)
    assert phases.released_at == START


def test_each_source_that_saw_a_step_is_named(story: Story) -> None:
    seen = story.of(0, "Pulled")
    story.events.append(seen.model_copy(update={"source": Source.EXPORTER}))
    assert judged(story)[0].sources["Pulled"] == [Source.EXPORTER, Source.WATCH]
    assert judged(story)[0].sources["Pulling"] == [Source.WATCH]


def test_an_event_that_only_the_exporter_saw_suffices(story: Story) -> None:
    seen = story.of(0, "Pulled")
    story.drop(0, "Pulled")
    story.events.append(seen.model_copy(update={"source": Source.EXPORTER}))
    assert statuses(story)[0] is Status.VALID


@pytest.mark.parametrize("reason", ["Pulling", "Pulled"])
def test_a_lost_event_is_named(story: Story, reason: str) -> None:
    story.drop(0, reason)
    cell = judged(story)[0]
    assert cell.status is Status.MISSING_EVENTS
    assert reason in cell.reason
    assert statuses(story)[1:] == VALID3


def test_an_image_that_was_on_the_node_is_cached(story: Story) -> None:
    story.drop(0, "Pulling")
    story.drop(0, "Pulled")
    text = f'Container image "{story.reference}" already present on machine'
    story.add(story.pods[0], "Pulled", 0.2, text)
    cell = judged(story)[0]
    assert cell.status is Status.CACHED
    assert cell.pull_s is None


def test_two_pulls_by_one_pod_are_repeated(story: Story) -> None:
    story.pull(story.pods[0])
    assert statuses(story) == [Status.REPEATED, *VALID3]


def test_two_pods_of_a_trial_on_one_node_leave_the_other_node_without_a_cell(story: Story) -> None:
    story.change_pod(1, node="node-a")
    assert statuses(story) == [Status.REPEATED, Status.ABORTED, Status.VALID, Status.VALID]


def test_a_failed_pull_says_why(story: Story) -> None:
    for reason in ("Pulled", "Created", "Started"):
        story.drop(0, reason)
    story.change_pod(0, phase="Pending", failure="ErrImagePull: manifest unknown")
    cell = judged(story)[0]
    assert cell.status is Status.FAILED
    assert "manifest unknown" in cell.reason


def test_a_pull_that_failed_first_is_retried(story: Story) -> None:
    story.add(story.pods[0], "Failed", 0.5, "Error: ErrImagePull")
    assert statuses(story) == [Status.RETRIED, *VALID3]


def test_a_pulling_event_counted_twice_is_retried(story: Story) -> None:
    seen = story.of(0, "Pulling")
    story.events.append(seen.model_copy(update={"event": {**seen.event, "count": 2}}))
    assert statuses(story) == [Status.RETRIED, *VALID3]


def test_an_evicted_pod_is_named(story: Story) -> None:
    story.change_pod(0, phase="Failed", failure="Evicted: The node had condition: [DiskPressure].")
    assert statuses(story) == [Status.EVICTED, *VALID3]


def test_disk_pressure_while_pulling_excludes_the_node(story: Story) -> None:
    node = {"kind": "Node", "name": "node-a", "uid": "node-a"}
    at = START + timedelta(seconds=1)
    story.event(node, "NodeHasDiskPressure", at, "Node node-a status is now: X", "node-a")
    assert statuses(story) == [Status.DISK_PRESSURE, *VALID3]


def test_disk_pressure_before_the_trial_excludes_nothing(story: Story) -> None:
    node = {"kind": "Node", "name": "node-a", "uid": "node-a"}
    at = START - timedelta(minutes=5)
    story.event(node, "NodeHasDiskPressure", at, "Node node-a status is now: X", "node-a")
    assert statuses(story)[0] is Status.VALID


def test_a_node_not_ready_while_pulling_is_lost(story: Story) -> None:
    node = {"kind": "Node", "name": "node-a", "uid": "node-a"}
    story.event(node, "NodeNotReady", START + timedelta(seconds=1), "not ready", "node-a")
    assert statuses(story) == [Status.NODE_LOST, *VALID3]


@pytest.mark.parametrize(
    ("started_s", "first"),
    [(-1.2, Status.VALID), (-0.4, Status.NODE_LOST), (0.5, Status.NODE_LOST)],
    ids=["before it was seen Ready", "since it was seen Ready", "while it pulled"],
)
def test_a_kubelets_start_loses_the_node_only_if_it_was_ready_before(
    story: Story, started_s: float, first: Status
) -> None:
    node = {"kind": "Node", "name": "node-a", "uid": "node-a"}
    at = START + timedelta(seconds=started_s)
    story.event(node, "Starting", at, "Starting kubelet.", "node-a")
    first_seen = START - timedelta(seconds=0.3)
    seen = NodeRecord(node="node-a", uid="node-a", at=first_seen, ready=True)
    cells = make_ledger(
        "run",
        [story.planned],
        [story.trial],
        merge_events(story.events),
        NODES,
        known=Circumstances(nodes=[seen]),
    )
    assert [cell.status for cell in cells] == [first, *VALID3]


def test_layers_left_by_earlier_images_are_warm(story: Story) -> None:
    shared = story.planned.image.layers[0]
    other = story.planned.image.model_copy(update={"digest": "sha256:d", "layers": (shared,)})
    earlier = PlannedTrial(trial=2, repetition=1, image=other, warm_bytes=0)
    begun = START - timedelta(minutes=1)
    past = story.trial.model_copy(update={"trial": 2, "released_at": begun})
    cells = make_ledger(
        "run",
        [story.planned, earlier],
        [story.trial],
        merge_events(story.events),
        NODES,
        known=Circumstances(trials=[past, story.trial]),
    )
    assert [cell.status for cell in cells] == [Status.WARM_LAYERS] * 4
    assert {cell.warm_bytes for cell in cells} == {500_000}


def test_a_trial_that_was_stopped_leaves_aborted_cells(story: Story) -> None:
    story.change_pod(0, phase="Running")
    assert statuses(story) == [Status.ABORTED, *VALID3]


def test_a_trial_without_pods_has_a_line_for_every_node(story: Story) -> None:
    story.pods = []
    assert statuses(story) == [Status.ABORTED] * 4


def test_a_trial_whose_turn_never_came_is_not_blamed_on_its_nodes(story: Story) -> None:
    node = {"kind": "Node", "name": "node-a", "uid": "node-a"}
    story.event(node, "Starting", START, "Starting kubelet.", "node-a")
    story.event(node, "NodeHasDiskPressure", START, "Node node-a status is now: X", "node-a")
    never = story.trial.model_copy(
        update={"pods": (), "released_at": None, "last_finished_at": None, "error": "interrupted"}
    )
    cells = make_ledger("run", [story.planned], [never], merge_events(story.events), NODES)
    assert [cell.status for cell in cells] == [Status.ABORTED] * 4


def test_a_record_that_is_no_event_is_passed_over(story: Story) -> None:
    odd = EventRecord(source=Source.EXPORTER, received_at=START, event={"metadata": [1]})
    story.events.append(odd)
    assert statuses(story) == [Status.VALID] * 4


def test_only_the_last_attempt_of_a_trial_counts(story: Story) -> None:
    second = story.trial.model_copy(update={"attempt": 2})
    assert last_attempts([story.trial, second]) == [second]


@given(st.data())
def test_no_subset_order_or_duplication_of_events_makes_an_unproved_cell_valid(
    data: st.DataObject,
) -> None:
    story = Story()
    records = data.draw(st.lists(st.sampled_from(story.events), max_size=60))
    cells = make_ledger("run", [story.planned], [story.trial], merge_events(records), NODES)
    assert len(cells) == 4
    for index, cell in enumerate(cells):
        needed = [story.of(index, reason) for reason in ("Pulling", "Pulled")]
        proved = all(record in records for record in needed)
        assert (cell.status is Status.VALID) == proved
        assert bool(cell.reason) != proved
