from datetime import timedelta

import pytest

from experiment.collect.ledger import RunHistory
from experiment.collect.merge_events import index_events, merge_events, reconcile
from schema.run_records import CellRecord, EventRecord, GapRecord, Source, Status
from tests.experiment.conftest import START, Story


def behind(story: Story, node: str, offset: timedelta) -> None:
    """Let a node's clock be behind: its events reach the watch that much after their own time."""
    story.events = [
        record.model_copy(update={"received_at": record.received_at + offset})
        if record.event["source"]["host"] == node
        else record
        for record in story.events
    ]


def ledger(story: Story, gaps: tuple[GapRecord, ...] = ()) -> list[CellRecord]:
    return story.judge(RunHistory(trials=[story.trial], gaps=gaps))


def test_of_an_events_updates_the_latest_counts_in_any_order(story: Story) -> None:
    first = story.of(0, "Pulling")
    metadata = {**first.event["metadata"], "resourceVersion": "12"}
    second = first.model_copy(update={"event": {**first.event, "count": 2, "metadata": metadata}})
    for records in ([first, second], [second, first]):
        (seen,) = merge_events(records)
        assert seen.event.count == 2
        assert seen.seen_at == first.received_at


def test_an_update_that_only_gkes_own_log_has_keeps_the_count_of_the_others(story: Story) -> None:
    counted = story.of(0, "Pulling").model_copy(deep=True)
    counted.event["count"] = 3
    native = counted.model_copy(deep=True, update={"source": Source.NATIVE})
    del native.event["count"]
    native.event["metadata"]["resourceVersion"] = "99"
    native.event["message"] = "later"
    (seen,) = merge_events([counted, native])
    assert (seen.event.message, seen.event.count) == ("later", 3)


def test_an_update_given_twice_by_a_source_is_counted_as_repeated(story: Story) -> None:
    again = story.of(0, "Pulled")
    found = reconcile([*story.events, again], [story.trial], [], exporter=False)
    assert found.sources[Source.WATCH].repeated == 1
    assert found.sources[Source.WATCH].seen == len(story.events)


def test_a_source_that_should_be_there_and_is_not_lost_everything(story: Story) -> None:
    found = reconcile(story.events, [story.trial], [], exporter=True)
    assert found.sources[Source.EXPORTER].lost == len(story.events)
    assert Source.NATIVE not in found.sources


def test_a_clock_that_is_minutes_off_is_named_and_spoils_nothing(story: Story) -> None:
    behind(story, "node-a", timedelta(minutes=3))
    offsets = index_events(merge_events(story.events), [story.trial]).offsets
    assert {node: offset.total_seconds() for node, offset in offsets.items()} == {"node-a": 180}
    cells = ledger(story)
    assert [cell.status for cell in cells] == [Status.VALID] * 4
    assert "180.0 s behind" in cells[0].marks[0]
    assert cells[1].marks == ()


def test_events_that_came_in_a_list_say_nothing_about_a_clock(story: Story) -> None:
    """A runner that is resumed lists what happened to its pods minutes before."""
    behind(story, "node-a", timedelta(minutes=3))
    late = {"listed": True}
    story.events = [
        record.model_copy(update=late if record.event["source"]["host"] == "node-a" else {})
        for record in story.events
    ]
    cells = ledger(story)
    assert [cell.status for cell in cells] == [Status.VALID] * 4
    assert cells[0].marks == ()


def test_events_about_pods_of_other_runs_say_nothing_about_a_clock(story: Story) -> None:
    own = story.judge()
    for pod in story.pods:
        story.pull(pod.model_copy(update={"uid": f"other-{pod.uid}", "pod": f"other-{pod.pod}"}))
    story.events[20:] = [
        record.model_copy(update={"received_at": record.received_at + timedelta(minutes=5)})
        for record in story.events[20:]
    ]
    assert story.judge() == own


@pytest.mark.parametrize("offset_s", [4, 180])
def test_what_happened_to_a_node_is_placed_by_the_runners_clock(
    story: Story, offset_s: float
) -> None:
    """Its clock is behind, so by its own time the trouble was before the trial."""
    node = {"kind": "Node", "name": "node-a", "uid": "node-a"}
    at = START + timedelta(seconds=1) - timedelta(seconds=offset_s)
    behind(story, "node-a", timedelta(seconds=offset_s))
    story.event(node, "NodeHasDiskPressure", at, "short of disk", "node-a")
    assert ledger(story)[0].status is Status.DISK_PRESSURE


def test_a_gap_marks_the_cells_of_its_time(story: Story) -> None:
    def gap(begin: float, *, recovered: bool) -> GapRecord:
        since = START + timedelta(seconds=begin)
        until = since + timedelta(seconds=1)
        return GapRecord(
            source=Source.WATCH, since=since, until=until, reason="cut", recovered=recovered
        )

    (mark,) = ledger(story, (gap(1, recovered=False), gap(60, recovered=False)))[0].marks
    assert "may be missing" in mark
    (mark,) = ledger(story, (gap(1, recovered=True),))[0].marks
    assert "arrived late" in mark


def test_records_without_a_uid_are_no_events(story: Story) -> None:
    odd = EventRecord(source=Source.WATCH, received_at=START, event={"reason": "Pulled"})
    assert merge_events([odd]) == []
    assert index_events(merge_events(story.events), [story.trial]).streaming is False
