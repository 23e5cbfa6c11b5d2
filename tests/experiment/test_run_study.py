"""What a resumed run does about the cluster of an earlier attempt."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiment.errors import OwnershipError, PreflightError, TeardownError
from experiment.run_folder import RunFolder
from experiment.run_study import StudyRun
from experiment.terminal.progress import Progress
from experiment.terminal.views import PlainView
from schema.errors import ExitCode
from schema.run_records import Phase, PhaseRecord
from tests.experiment.cells import at, run_record
from tests.experiment.fakes import OUTPUTS, FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    cluster = FakeCluster()
    cluster.left = True
    return cluster


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.write_run(run_record())
    folder.add(PhaseRecord(phase=Phase.MEASURE, started_at=at(100), ended_at=at(130)))
    return folder


def resumed(
    folder: RunFolder, cluster: FakeCluster, output: io.StringIO, **options: Any
) -> StudyRun:
    return StudyRun(
        folder,
        folder.read_run(),
        cluster,
        2,
        Progress(PlainView(Console(file=output)), lambda _line: None),
        **({"preflight": lambda: None} | options),
    )


def end_leftovers(folder: RunFolder, cluster: FakeCluster, *, keep_cluster: bool = False) -> str:
    """What it prints."""
    output = io.StringIO()
    run = resumed(folder, cluster, output, keep_cluster=keep_cluster)
    run.end_leftovers()
    return output.getvalue()


def test_the_cluster_of_a_killed_runner_is_taken_down(
    folder: RunFolder, cluster: FakeCluster
) -> None:
    end_leftovers(folder, cluster)
    assert cluster.done == ["recover", "teardown"]
    assert folder.phases()[-1].phase is Phase.TEARDOWN


def test_a_run_that_was_torn_down_asks_no_cloud(folder: RunFolder, cluster: FakeCluster) -> None:
    folder.add(PhaseRecord(phase=Phase.TEARDOWN, started_at=at(130), ended_at=at(190)))
    end_leftovers(folder, cluster)
    assert cluster.done == []


def test_a_teardown_that_failed_is_retried_and_its_failure_raised(
    folder: RunFolder, cluster: FakeCluster
) -> None:
    failed = PhaseRecord(phase=Phase.TEARDOWN, started_at=at(130), ended_at=at(190), error="no")
    folder.add(failed)
    cluster.errors["teardown"] = TeardownError("It is still there.", "delete it")
    with pytest.raises(TeardownError, match="still there"):
        end_leftovers(folder, cluster)
    assert cluster.done == ["recover", "teardown"]


def test_a_cluster_that_is_to_be_kept_is_kept_and_its_price_shown(
    folder: RunFolder, cluster: FakeCluster
) -> None:
    assert "kept" in end_leftovers(folder, cluster, keep_cluster=True)
    assert cluster.done == ["recover"]


def test_a_resume_that_fails_its_checks_takes_the_cluster_down(
    folder: RunFolder, cluster: FakeCluster
) -> None:
    def refuse() -> None:
        assert cluster.done == ["recover"], "the checks know what the run holds"
        raise PreflightError("The quota is too small.")

    with pytest.raises(PreflightError, match="quota"):
        resumed(folder, cluster, io.StringIO(), preflight=refuse).run()
    assert cluster.done == ["recover", "teardown"]


def test_a_cluster_on_which_another_run_measures_is_not_taken_down(
    folder: RunFolder, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OwnershipError("Another run (anna@there, run r) measures on this cluster.")

    monkeypatch.setattr("experiment.run_study.connect", refuse)
    monkeypatch.setattr("experiment.run_study.resolve_remover", lambda *_: None)
    with pytest.raises(OwnershipError, match="anna@there") as caught:
        resumed(folder, cluster, io.StringIO()).run()
    assert caught.value.exit_code == ExitCode.PREFLIGHT
    assert cluster.done == ["recover", "provision"]


def test_a_resumed_run_records_how_long_the_cluster_of_a_killed_one_was_up(
    folder: RunFolder, cluster: FakeCluster
) -> None:
    cluster.created_at = at(90)
    end_leftovers(folder, cluster)
    preflight = folder.phases()[-2]
    assert (preflight.cluster_since, preflight.cluster_until) == (at(130), preflight.ended_at)


def test_of_a_cluster_that_is_gone_the_deadline_ends_the_time_that_it_was_up(
    folder: RunFolder, cluster: FakeCluster
) -> None:
    cluster.left = False
    outputs = OUTPUTS.model_copy(update={"expires_at": f"{at(500):%Y-%m-%dT%H:%M:%SZ}"})
    folder.write_run(folder.read_run().model_copy(update={"outputs": outputs}))
    end_leftovers(folder, cluster)
    (preflight,) = folder.phases()[1:]
    assert (preflight.cluster_since, preflight.cluster_until) == (at(130), at(500))
