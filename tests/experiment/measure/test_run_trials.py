"""A whole attempt on a fake cluster: connect, trials, close."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from experiment.cluster_lease import ClusterLease, Holder
from experiment.errors import (
    BudgetError,
    FolderError,
    MeasureError,
    OwnershipError,
    ProvisionError,
)
from experiment.kube import Kube
from experiment.measure import prepare
from experiment.measure.prepare import connect
from experiment.measure.run_trials import Measurement
from experiment.outage import Refused
from experiment.run_folder import Free, RunFolder, Steps
from experiment.terminal.progress import Progress
from schema.run_records import NodeStatsRecord, PlannedTrial, RunRecord
from tests.experiment.cells import layered_image, planned, run_record
from tests.experiment.conftest import NODES
from tests.experiment.fake_kube import PODS, FakeKube, eventually, node
from tests.experiment.fakes import OUTPUTS

A, B = planned(1), planned(2)


class NoView:
    """Shows nothing."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch) -> FakeKube:
    kube = FakeKube()
    monkeypatch.setattr(prepare, "Kube", lambda *_: kube)
    monkeypatch.setattr("experiment.measure.run_trials._COMPLETE_S", 0.2)
    return kube


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


Connect = Callable[..., Measurement]


@pytest.fixture
def measurement(folder: RunFolder, kube: FakeKube) -> Iterator[Connect]:
    opened: list[Measurement] = []

    def connected(record: RunRecord | None = None, *, fresh: bool = True) -> Measurement:
        opened.append(
            connect(
                folder,
                record or run_record(),
                OUTPUTS,
                attempt=1,
                progress=Progress(NoView(), folder.log),
                steps=Steps(),
                fresh=fresh,
            )
        )
        return opened[-1]

    yield connected
    for each in opened:
        each.close()
    kube.close()


def test_trials_run_in_order_and_their_records_name_the_cluster(
    measurement: Connect, folder: RunFolder, kube: FakeKube
) -> None:
    run = measurement()
    started: list[PlannedTrial] = []
    run.measure([A, B], started.append)
    assert started == [A, B]
    trials = folder.trials()
    assert [(trial.trial, trial.error, trial.cluster) for trial in trials] == [
        (1, None, "cluster-uid"),
        (2, None, "cluster-uid"),
    ]
    assert folder.node_names(1) == list(run.nodes) == list(NODES)
    assert [job.job for job in folder.jobs()] == [trial.job for trial in trials]
    assert kube.deleted == [trials[0].job]  # once the job controller was done with it
    assert run.versions["kubernetes"] == "v1.34.1"


@pytest.mark.parametrize("staging", [True, False])
def test_the_next_trial_is_staged_while_one_pulls_unless_the_run_forbids_it(
    measurement: Connect, kube: FakeKube, staging: bool
) -> None:
    existing: list[int] = []

    def count_pods(_trial: PlannedTrial) -> None:
        existing.append(len(kube.list(PODS, {})["items"]))

    measurement(run_record(staging=staging)).measure([A, B], count_pods)
    assert existing == [0, 8 if staging else 4]


def test_node_statistics_are_fetched_before_and_after_each_trial(
    measurement: Connect, folder: RunFolder
) -> None:
    run = measurement()
    run.measure([A, B], lambda _trial: None)
    run.collect(0)

    def key(record: NodeStatsRecord) -> tuple[int, str]:
        return record.trial, record.moment

    assert {key(record) for record in folder.node_stats()} == {
        (1, "before"), (1, "after"), (2, "before"), (2, "after"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (BudgetError("Too dear.\nMore."), "Too dear."),
        (KeyboardInterrupt(), "interrupted"),
        (RuntimeError("a mistake"), "a mistake"),
    ],
)
def test_every_trial_has_a_record_however_measuring_ends(
    measurement: Connect, folder: RunFolder, error: BaseException, why: str
) -> None:
    third = A.model_copy(update={"trial": 3})

    def refuse_second(trial: PlannedTrial) -> None:
        if trial is B:
            raise error

    with pytest.raises(type(error)):
        measurement().measure([A, B, third], refuse_second)
    assert [(trial.trial, trial.error) for trial in folder.trials()] == [
        (1, None),
        (2, why),
        (3, "the run ended before its turn"),
    ]
    assert folder.trials()[2].job == ""


class Disk:
    """What is free on the disk of the run's folder."""

    def __init__(self) -> None:
        self.free = Free(100_000_000, 10_000)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr("experiment.measure.run_trials.free_space", lambda _folder: disk.free)
    return disk


@pytest.mark.parametrize(
    ("low", "full"),
    [
        (Free(30_000_000, 9_000), Free(5_000_000, 9_000)),
        (Free(60_000_000, 90), Free(60_000_000, 9)),
    ],
    ids=["space", "inodes"],
)
def test_a_disk_that_fills_up_is_warned_of_once_and_ends_measuring_in_order(
    measurement: Connect, folder: RunFolder, disk: Disk, low: Free, full: Free
) -> None:
    def fill(trial: PlannedTrial) -> None:
        disk.free = full if trial is B else low

    third = A.model_copy(update={"trial": 3})
    with pytest.raises(FolderError, match=f"Only {full} are free on the disk of"):
        measurement().measure([A, B, third], fill)
    trials = folder.trials()
    assert [trial.error and trial.error[:5] for trial in trials] == [None, "Only ", "the r"]
    assert len(trials[1].pods) == len(NODES)  # released before the disk was seen to be full
    log = (folder.path / "run.log").read_text("utf-8")
    assert log.count("Warning: only") == log.count(f"Warning: only {low} are free") == 1


def test_a_trial_of_more_nodes_does_not_begin_on_a_disk_that_takes_fewer_cells(
    measurement: Connect, folder: RunFolder, disk: Disk
) -> None:
    disk.free = Free(10_000_000 + len(NODES) * 20_000 - 1, 10_000)
    begun: list[PlannedTrial] = []
    with pytest.raises(FolderError):
        measurement().measure([A], begun.append)
    assert not begun
    assert not folder.trials()[0].pods


def test_an_image_that_may_be_on_the_nodes_is_removed_before_its_turn(
    measurement: Connect, folder: RunFolder, kube: FakeKube
) -> None:
    kube.message = '[{"image":false,"layers":[],"partial":0}]'
    kube.leftovers, kube.left_jobs = 3, ["left-over"]
    record = run_record(remover=layered_image("busybox", "x"))
    again = A.model_copy(update={"trial": 3, "repetition": 2})
    measurement(record, fresh=False).measure([A, again], lambda _trial: None)
    first, second = folder.trials()
    assert not first.fresh
    assert first.removal_begun_at
    assert first.removal_ended_at
    assert first.removal_ended_at < first.released_at  # type: ignore[operator]
    assert {(each.before_trial, each.absent) for each in folder.removals()} == {
        (1, True),
        (3, True),
    }
    assert second.removal_begun_at
    assert "delete Jobs pull-study/run" in kube.done
    assert "left-over" in kube.deleted


def test_on_fresh_nodes_only_an_image_that_was_pulled_is_removed(
    measurement: Connect, folder: RunFolder
) -> None:
    record = run_record(remover=layered_image("busybox", "x"))
    again = A.model_copy(update={"trial": 3, "repetition": 2})
    measurement(record).measure([A, B, again], lambda _trial: None)
    assert [bool(trial.removal_begun_at) for trial in folder.trials()] == [False, False, True]


def test_a_watch_that_breaks_ends_measuring(
    measurement: Connect, folder: RunFolder, kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = measurement()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    kube.hanging = {0}
    monkeypatch.setattr(run.watch, "_folder", type("Full", (), {"add": fail, "log": fail})())
    kube.emit("/api/v1/events", "ADDED", {"metadata": {"name": "e", "uid": "e"}})
    with pytest.raises(OSError, match="disk full"):
        run.measure([A], lambda _trial: None)
    assert folder.trials()[0].error == "disk full"


def test_an_api_server_that_stays_away_ends_measuring(
    measurement: Connect, kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = measurement()
    kube.hanging = {0}
    monkeypatch.setattr("experiment.measure.cluster_watch.PATIENCE_S", 0.1)
    kube.away = True
    with pytest.raises(MeasureError, match=r"has been away for \d s"):
        run.measure([A], lambda _trial: None)


def test_retried_requests_are_logged_when_it_closes(
    measurement: Connect, folder: RunFolder, kube: FakeKube
) -> None:
    kube.repeated["429"] = 3
    measurement().close()
    assert "3 requests to the API server retried (429: 3)" in (folder.path / "run.log").read_text(
        "utf-8"
    )


def test_events_of_other_runs_are_not_kept_and_those_of_the_first_list_are_marked(
    measurement: Connect, folder: RunFolder, kube: FakeKube
) -> None:
    path = PODS.replace("pods", "events")

    def emit(number: int, kind: str, name: str) -> None:
        about = {"kind": kind, "name": name, "uid": name}
        event = {"metadata": {"name": str(number), "uid": str(number)}, "involvedObject": about}
        kube.emit(path, "ADDED", event)

    emit(1, "Pod", "a-run-t001-a1-0-x7k2p")
    emit(2, "Pod", "a-run-two-t001-a1-0-x7k2p")
    emit(3, "Job", "their-job")
    measurement()
    emit(4, "Pod", "their-pod")
    emit(5, "Node", "node-a")
    emit(6, "Job", "a-run-r002-a11")
    eventually(lambda: len(list(folder.events())) == 3)
    kept = [(each.event["metadata"]["uid"], each.listed) for each in folder.events()]
    assert kept == [("1", True), ("5", False), ("6", False)]


def test_a_cluster_on_which_another_run_measures_is_refused_and_its_jobs_stay(
    measurement: Connect, kube: FakeKube
) -> None:
    other = Holder("theirs", "/runs/theirs", "that", "anna@there")
    ClusterLease(cast("Kube", kube), other).acquire()
    kube.left_jobs = ["theirs-t001-a1"]
    with pytest.raises(OwnershipError, match="anna@there, run theirs"):
        measurement(fresh=False)
    assert kube.deleted == []
    assert kube.closed


def test_a_run_whose_lease_was_taken_releases_no_further_trial(
    measurement: Connect, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = measurement()

    def taken() -> None:
        if folder.trials():
            raise MeasureError("Another run measures.")

    monkeypatch.setattr(run.lease, "check", taken)
    with pytest.raises(MeasureError, match="Another run measures"):
        run.measure([A, B], lambda _trial: None)
    assert [bool(trial.released_at) for trial in folder.trials()] == [True, False]


@pytest.mark.parametrize("half_way", ["nodes", "lists", "versions"])
def test_what_was_opened_is_closed_when_connecting_fails_half_way(
    measurement: Connect, kube: FakeKube, monkeypatch: pytest.MonkeyPatch, half_way: str
) -> None:
    errors: dict[str, type[Exception]] = {
        "nodes": ProvisionError,
        "lists": MeasureError,
        "versions": RuntimeError,
    }
    if half_way == "nodes":
        monkeypatch.setattr(prepare, "_READY_S", 0)
        kube.emit("/api/v1/nodes", "MODIFIED", node("node-b", "node-b", Ready="False"))
    elif half_way == "lists":
        kube.refused[PODS] = Refused(400, "no such selector")
    else:
        monkeypatch.setattr(kube, "server_version", lambda: 1 / 0)
        errors["versions"] = ZeroDivisionError
    with pytest.raises(errors[half_way]):
        measurement()
    assert kube.closed
