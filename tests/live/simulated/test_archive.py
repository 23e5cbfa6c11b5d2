"""A run that lost events reads them again, from Cloud Logging or from its log sink's bucket."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator

import pytest

from experiment.collect.archive import collect_archive
from experiment.collect.judge import judge
from experiment.errors import MeasureError
from experiment.run_folder import RunFolder
from schema.run_records import Source, Status
from tests.live.harness import LONGEST_S, Place

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(LONGEST_S),
    pytest.mark.usefixtures("two_sizes"),
]

CELLS = 3 * 4
WATCHED, LOGGED = "events.watch.jsonl", "events.logging.jsonl"


@pytest.fixture
def folder(simulated: Place) -> Iterator[RunFolder]:
    """The run of size-4; a copy of its files comes back afterwards."""
    folder = simulated.record("r-size-4")
    kept = folder.path.with_name("kept")
    shutil.copytree(folder.path, kept)
    yield folder
    shutil.rmtree(folder.path)
    kept.rename(folder.path)


def lose(folder: RunFolder, *names: str) -> None:
    for name in names:
        (folder.path / name).unlink()
    judge(folder, folder.read_run(), 1, complete=False)
    assert statuses(folder) == {Status.MISSING_EVENTS: CELLS}


def statuses(folder: RunFolder) -> Counter[Status]:
    return Counter(cell.status for cell in folder.cells())


def test_the_command_collect_reads_lost_events_again_from_cloud_logging(
    simulated: Place, folder: RunFolder
) -> None:
    lose(folder, WATCHED, LOGGED)
    output = simulated.succeed("experiment", "collect", folder.path.name)
    assert f"{CELLS} of {CELLS} cells" in output
    assert statuses(folder) == {Status.VALID: CELLS}


def test_lost_events_come_back_from_the_archive(simulated: Place, folder: RunFolder) -> None:
    record = folder.read_run()
    exported = {each.insert_id for each in folder.events(Source.EXPORTER)}
    assert exported
    lose(folder, WATCHED, LOGGED)
    with simulated.entered():
        with pytest.raises(MeasureError, match="has no events of the run r-size-4 yet") as early:
            collect_archive(folder, record)
        assert "two to three hours late" in early.value.problem
        assert "again after" in early.value.fix

        assert simulated.call("POST", "rehearsal/sinks:flush")["objects"] >= 1
        assert collect_archive(folder, record) >= len(exported)
        assert exported <= {each.insert_id for each in folder.events()}
        judge(folder, record, 1, complete=False)
        assert statuses(folder) == {Status.VALID: CELLS}
        assert collect_archive(folder, record) == 0, "nothing is added twice"


def test_an_event_that_the_folder_has_is_not_added(simulated: Place, folder: RunFolder) -> None:
    simulated.call("POST", "rehearsal/sinks:flush")
    before = {each.insert_id for each in folder.events(Source.EXPORTER)}
    with simulated.entered():
        added = collect_archive(folder, folder.read_run())
    after = [each.insert_id for each in folder.events(Source.EXPORTER)]
    assert len(after) == len(set(after)) == len(before) + added
