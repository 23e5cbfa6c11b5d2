from collections.abc import Callable
from datetime import timedelta

import pytest

from experiment.collect.ledger import RunHistory
from experiment.errors import ledger_exit_code
from schema.errors import ExitCode
from schema.run_records import EventRecord, NodeRecord, Source, SpanKind, SpanRecord, Status
from tests.experiment.cells import layered_image
from tests.experiment.conftest import NODES, START, Story

VALID3 = [Status.VALID] * 3


def test_an_undisturbed_trial_is_valid_on_every_node(story: Story) -> None:
    cells = story.judge()
    assert [(cell.node, cell.status, cell.reason) for cell in cells] == [
        (node, Status.VALID, "") for node in NODES
    ]
    assert {(cell.pull_s, cell.image_bytes) for cell in cells} == {(1.5, 1_000_000)}
    assert cells[0].phases.released_at == START


def test_the_time_of_the_binding_is_the_runners_or_the_schedulers(story: Story) -> None:
    own = START + timedelta(milliseconds=40)
    story.change_pod(0, bound_at=own)
    cells = story.judge()
    by_scheduler = START + timedelta(seconds=0.1)
    assert [cell.phases.scheduled_at for cell in cells[:2]] == [own, by_scheduler]


def test_each_source_that_saw_a_step_is_named(story: Story) -> None:
    seen = story.of(0, "Pulled")
    story.events.append(seen.model_copy(update={"source": Source.EXPORTER}))
    sources = story.judge()[0].sources
    assert sources["Pulled"] == [Source.EXPORTER, Source.WATCH]
    assert sources["Pulling"] == [Source.WATCH]


def only_exported(story: Story) -> None:
    seen = story.of(0, "Pulled")
    story.drop(0, "Pulled")
    story.events.append(seen.model_copy(update={"source": Source.EXPORTER}))


def on_the_node(story: Story) -> None:
    story.drop(0, "Pulling")
    story.drop(0, "Pulled")
    text = f'Container image "{story.reference}" already present on machine'
    story.add(story.pods[0], "Pulled", 0.2, text)


def failed(story: Story) -> None:
    for reason in ("Pulled", "Created", "Started"):
        story.drop(0, reason)
    story.change_pod(0, phase="Pending", failure="ErrImagePull: manifest unknown")


def counted_twice(story: Story) -> None:
    seen = story.of(0, "Pulling")
    story.events.append(seen.model_copy(update={"event": {**seen.event, "count": 2}}))


@pytest.mark.parametrize(
    ("disturb", "status", "reason"),
    [
        (only_exported, Status.VALID, ""),
        (lambda story: story.drop(0, "Pulling"), Status.MISSING_EVENTS, "Pulling"),
        (lambda story: story.drop(0, "Pulled"), Status.MISSING_EVENTS, "Pulled"),
        (on_the_node, Status.CACHED, "on the node already"),
        (failed, Status.FAILED, "manifest unknown"),
        (
            lambda story: story.add(story.pods[0], "Failed", 0.5, "Error: ErrImagePull"),
            Status.RETRIED,
            "failed first",
        ),
        (counted_twice, Status.RETRIED, "failed first"),
        (lambda story: story.node_event("NodeHasDiskPressure", -300), Status.VALID, ""),
        (lambda story: story.node_event("NodeNotReady", 1), Status.NODE_LOST, "not ready"),
        (lambda story: story.change_pod(0, phase="Running"), Status.ABORTED, "ended before"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_disturbs_one_cell_is_its_status_and_leaves_the_others_valid(
    story: Story, disturb: Callable[[Story], None], status: Status, reason: str
) -> None:
    disturb(story)
    first, *others = story.judge()
    assert first.status is status
    assert reason in first.reason
    assert bool(first.reason) == (status is not Status.VALID)
    assert [cell.status for cell in others] == VALID3


def test_a_cell_that_was_cached_has_no_pull_time(story: Story) -> None:
    on_the_node(story)
    assert story.judge()[0].pull_s is None


def test_spans_of_its_pull_are_a_cells_columns_and_a_contradiction_is_its_mark(
    story: Story,
) -> None:
    trial, pull_s = story.trial, story.judge()[0].pull_s
    assert trial.released_at is not None
    assert pull_s is not None
    begin = int(trial.released_at.timestamp() * 1e9)
    fetched, end = begin + 10**8, begin + int(pull_s * 1e9)

    def spans(node: str, end_ns: int) -> list[SpanRecord]:
        return [
            SpanRecord(node=node, trace=node, kind=kind, begin_ns=since, end_ns=until, image=image)
            for kind, since, until, image in (
                (SpanKind.PULL, begin, end_ns, trial.reference),
                (SpanKind.FETCH, begin, fetched, ""),
                (SpanKind.UNPACK, fetched, end_ns, ""),
                (SpanKind.UNPACK, fetched, end_ns, ""),
            )
        ]

    first, second, *_ = NODES
    cells = story.judge(RunHistory(spans=[*spans(first, end), *spans(second, end + 10**9)]))
    assert cells[0].fetch_s == pytest.approx(0.1)
    assert cells[0].overlap_s == 0
    assert cells[0].unpack_s == pytest.approx(pull_s - 0.1, abs=1e-6)
    assert cells[0].marks == ()
    assert "by containerd's spans the pull took" in cells[1].marks[0]
    assert {cell.unpack_s for cell in cells[2:]} == {None}
    assert {cell.status for cell in cells} == {Status.VALID}


def quick(story: Story) -> None:
    for reason in ("Pulling", "Pulled", "Created", "Started"):
        story.drop(0, reason)
    story.pull(story.pods[0], seconds=0.04)


@pytest.mark.parametrize("spoil", [on_the_node, quick], ids=["present", "pulled in no time"])
def test_what_a_secondary_boot_disk_holds_is_preloaded_and_what_it_lacks_is_pulled(
    story: Story, spoil: Callable[[Story], None]
) -> None:
    spoil(story)
    assert story.statuses() == [Status.CACHED, *VALID3]
    assert story.statuses(RunHistory(preloaded=True)) == [Status.PRELOADED, *VALID3]
    cells = story.judge(RunHistory(preloaded=True))
    assert cells[0].pull_s is None
    assert ledger_exit_code(cells) == ExitCode.OK


@pytest.mark.parametrize(
    ("started_s", "first"),
    [(-1.2, Status.VALID), (-0.4, Status.NODE_LOST), (0.5, Status.NODE_LOST)],
    ids=["before it was seen Ready", "since it was seen Ready", "while it pulled"],
)
def test_a_kubelets_start_loses_the_node_only_if_it_was_ready_before(
    story: Story, started_s: float, first: Status
) -> None:
    story.node_event("Starting", started_s, "Starting kubelet.")
    first_seen = START - timedelta(seconds=0.3)
    seen = NodeRecord(node="node-a", uid="node-a", at=first_seen, ready=True)
    assert story.statuses(RunHistory(nodes=[seen])) == [first, *VALID3]


def test_a_trial_without_pods_has_a_line_for_every_node(story: Story) -> None:
    story.pods = []
    assert story.statuses() == [Status.ABORTED] * 4


def test_a_trial_whose_turn_never_came_is_not_blamed_on_its_nodes(story: Story) -> None:
    story.node_event("Starting", 0, "Starting kubelet.")
    story.node_event("NodeHasDiskPressure", 0)
    never = story.trial.model_copy(
        update={"pods": (), "released_at": None, "last_finished_at": None, "error": "interrupted"}
    )
    assert {cell.status for cell in story.judge(trial=never)} == {Status.ABORTED}


def as_miniclusters(story: Story, view: str = "already present on machine") -> None:
    """Let each pod start a view before its pull, as a MiniCluster's do."""
    image = layered_image("view", "v")
    story.planned = story.planned.model_copy(update={"view": image})
    for pod in story.pods:
        init = "spec.initContainers{flux-view}"
        story.add(pod, "Pulled", -19, f'Container image "{image.reference}" {view}', container=init)
        story.add(pod, "Created", -18.9, "Created container: flux-view", container=init)
        story.add(pod, "Started", -18.8, "Started container flux-view", container=init)


def test_the_view_of_a_minicluster_is_no_pull_of_its_cell_and_its_start_is_recorded(
    story: Story,
) -> None:
    as_miniclusters(story)
    cells = story.judge()
    assert {(cell.status, cell.pull_s) for cell in cells} == {(Status.VALID, 1.5)}
    assert cells[0].phases.view_started_at == START + timedelta(seconds=-18.8)
    assert cells[0].phases.started_at == START + timedelta(seconds=1.9)
    assert {cell.marks for cell in cells} == {
        ("the Flux view was copied to the node's disk just before the pull",)
    }


def test_a_view_that_was_pulled_or_not_seen_marks_its_cell(story: Story) -> None:
    as_miniclusters(story)
    pulled = [
        record
        for record in story.events
        if record.event["reason"] == "Pulled" and "fieldPath" in record.event["involvedObject"]
    ]
    story.events.remove(pulled[0])
    pulled[1].event["message"] = (
        'Successfully pulled image "r/i:view" in 17.8s (17.8s including waiting). '
        "Image size: 185000000 bytes."
    )
    first, second, *_ = story.judge()
    assert (first.status, second.status) == (Status.VALID, Status.VALID)
    assert first.marks[0] == "no source saw whether the Flux view was on the node"
    assert second.marks[0] == "the Flux view was pulled first, in 17.8 s"


def test_a_pod_that_fails_once_its_container_has_started_does_not_undo_its_pull(
    story: Story,
) -> None:
    story.change_pod(0, phase="Failed", failure="exit code 1: Error", started=True)
    story.change_pod(1, phase="Running", started=True)
    as_job = [cell.status for cell in story.judge()]
    assert as_job[:2] == [Status.FAILED, Status.ABORTED]
    as_miniclusters(story)
    assert {cell.status for cell in story.judge()} == {Status.VALID}


def test_a_record_that_is_no_event_is_ignored(story: Story) -> None:
    odd = EventRecord(source=Source.EXPORTER, received_at=START, event={"metadata": [1]})
    story.events.append(odd)
    assert story.statuses() == [Status.VALID] * 4
