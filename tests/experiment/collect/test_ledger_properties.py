"""Whatever of a cell's events came, however often and in whatever order: no cell is called valid
that is not, and none is dropped."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment.collect.ledger import RunHistory
from schema.run_records import EventRecord, NodeRecord, RemovalRecord, Source, Status
from tests.experiment.conftest import NODES, START, Story

UID = "uid-0"


def of_first_cell(story: Story) -> list[EventRecord]:
    return [e for e in story.events if e.event["involvedObject"]["uid"] == UID]


def of_others(story: Story) -> list[EventRecord]:
    return [e for e in story.events if e.event["involvedObject"]["uid"] != UID]


def as_native(record: EventRecord) -> EventRecord:
    """As GKE's own log gives it: without count and first timestamp."""
    event = {k: v for k, v in record.event.items() if k not in {"count", "firstTimestamp"}}
    return record.model_copy(update={"source": Source.NATIVE, "event": event})


def as_exported(record: EventRecord) -> EventRecord:
    return record.model_copy(update={"source": Source.EXPORTER})


@st.composite
def what_came(draw: st.DrawFn, records: list[EventRecord]) -> list[EventRecord]:
    """Any subset of records, in any order, any of them repeated, from any of the sources."""
    copies = [*records, *map(as_exported, records), *map(as_native, records)]
    return draw(st.lists(st.sampled_from(copies), max_size=40)) if copies else []


@given(st.data())
def test_a_cell_is_valid_exactly_if_its_pull_is_proved(data: st.DataObject) -> None:
    story = Story()
    came = data.draw(what_came(of_first_cell(story)))
    first, *others = story.judge(events=[*of_others(story), *came])
    reasons = {record.event["reason"] for record in came}
    assert (first.status is Status.VALID) == ({"Pulling", "Pulled"} <= reasons)
    assert (first.reason == "") == (first.status is Status.VALID)
    assert [cell.status for cell in others] == [Status.VALID] * 3


def cached(story: Story) -> None:
    """The image was on the node, and the kubelet says so."""
    story.drop(0, "Pulling")
    story.drop(0, "Pulled")
    text = f'Container image "{story.reference}" already present on machine'
    story.add(story.pods[0], "Pulled", 0.2, text)


def disguised(story: Story) -> None:
    """The image was on the node, and imagePullPolicy Always made its pull look real."""
    story.events = of_others(story)
    story.pull(story.pods[0], seconds=0.04)


def always(story: Story) -> None:
    """An admission plugin changed the policy, and the pull takes as long as a real one."""
    story.change_pod(0, pull_policy="Always")


def retried(story: Story) -> None:
    """The first try failed; of the Pulling event there are two updates."""
    first = story.of(0, "Pulling")
    again = {**first.event, "count": 2, "message": first.event["message"]}
    again["metadata"] = {**first.event["metadata"], "resourceVersion": "9"}
    story.events.append(first.model_copy(update={"event": again}))
    for reason in ("Pulled", "Created", "Started"):
        story.drop(0, reason)
    story.add(story.pods[0], "Failed", 1.0, f'Failed to pull image "{story.reference}": EOF')
    story.add(story.pods[0], "Failed", 1.0, "Error: ErrImagePull")
    story.add(story.pods[0], "BackOff", 1.1, f'Back-off pulling image "{story.reference}"')
    story.add(
        story.pods[0],
        "Pulled",
        13.0,
        f'Successfully pulled image "{story.reference}" in 1.5s (1.5s including waiting). '
        "Image size: 1000000 bytes.",
    )


def failed(story: Story) -> None:
    """The runner gave up at the first failure; later tries may succeed all the same."""
    story.change_pod(0, phase="Pending", failure="ErrImagePull: manifest unknown")


def evicted(story: Story) -> None:
    """The pod pulled, and was evicted before it ended."""
    story.change_pod(0, phase="Failed", failure="Evicted: The node had DiskPressure.")


def elsewhere(story: Story) -> None:
    """The pod of this cell ran on another node."""
    story.change_pod(0, node="node-b")


def twice(story: Story) -> None:
    """A second pod of the trial ran on the node."""
    story.change_pod(1, node="node-a")


def never_ended(story: Story) -> None:
    """The trial was over before the pod was."""
    story.change_pod(0, phase="Running")


@pytest.mark.parametrize(
    "spoil",
    [cached, disguised, always, retried, failed, evicted, elsewhere, twice, never_ended],
)
@given(data=st.data())
def test_no_part_of_the_events_of_a_spoilt_cell_makes_it_valid(
    spoil: Callable[[Story], None], data: st.DataObject
) -> None:
    story = Story()
    spoil(story)
    came = data.draw(what_came(of_first_cell(story)))
    cells = story.judge(events=[*of_others(story), *came])
    assert [cell.node for cell in cells] == list(NODES)
    assert cells[0].status is not Status.VALID
    assert cells[0].reason


def lost_node(story: Story) -> RunHistory:
    at = START + timedelta(seconds=0.5)
    node = NodeRecord(node="node-a", uid="n", at=START - timedelta(minutes=1), ready=True)
    return RunHistory(
        trials=[story.trial], nodes=[node, node.model_copy(update={"at": at, "ready": False})]
    )


def replaced_node(story: Story) -> RunHistory:
    node = NodeRecord(node="node-a", uid="n", at=START - timedelta(minutes=9), ready=True)
    other = node.model_copy(update={"uid": "m", "at": START - timedelta(minutes=5)})
    return RunHistory(trials=[story.trial], nodes=[node, other])


def short_of_disk(story: Story) -> RunHistory:
    node = NodeRecord(node="node-a", uid="n", at=START - timedelta(minutes=1), ready=True)
    short = {"at": START + timedelta(seconds=1), "pressures": ("DiskPressure",)}
    return RunHistory(trials=[story.trial], nodes=[node, node.model_copy(update=short)])


def image_listed(story: Story) -> RunHistory:
    digest = story.planned.image.digest
    node = NodeRecord(node="node-a", uid="n", at=START, ready=True, images=(digest,))
    return RunHistory(trials=[story.trial], nodes=[node])


def pulled_before(story: Story) -> RunHistory:
    past = {"attempt": 0, "released_at": START - timedelta(minutes=1), "cluster": "c"}
    removal = RemovalRecord(
        before_trial=1,
        node="node-a",
        reference=story.reference,
        at=START - timedelta(seconds=5),
        absent=False,
        detail="containerd still has the image",
    )
    return RunHistory(trials=[story.trial.model_copy(update=past), story.trial], removals=[removal])


@pytest.mark.parametrize(
    "circumstances", [lost_node, replaced_node, short_of_disk, image_listed, pulled_before]
)
@given(data=st.data())
def test_no_part_of_a_cells_events_outweighs_what_is_known_of_its_node(
    circumstances: Callable[[Story], RunHistory], data: st.DataObject
) -> None:
    story = Story()
    known = circumstances(story)
    story.cluster = "c"
    known = RunHistory(
        trials=[*known.trials[:-1], story.trial], removals=known.removals, nodes=known.nodes
    )
    came = data.draw(what_came(of_first_cell(story)))
    cells = story.judge(known, events=[*of_others(story), *came])
    assert len(cells) == len(NODES)
    assert cells[0].status is not Status.VALID
