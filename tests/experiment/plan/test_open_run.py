from __future__ import annotations

import io
from pathlib import Path

import pytest

from experiment.errors import PlanError
from experiment.plan.open_run import begin, clusters, reopen, require_operator
from experiment.plan.request import NewRuns
from experiment.provision.stack_cluster import StackCluster
from experiment.provision.stack_files import set_deadline
from experiment.provision.stack_settings import stack_facts
from experiment.terminal.views import PipeSafeConsole, PlainView
from tests.experiment.cells import planned, run_record
from tests.experiment.provision.test_existing_cluster import FakeKube as ExistingKube
from tests.experiment.provision.test_existing_cluster import node, write

pytestmark = pytest.mark.usefixtures("two_planned_trials")


def started() -> str:
    new = NewRuns(("size-4",), Path("s.yaml"), run_id="a")
    (run,) = begin(new, run_record().study, PlainView(PipeSafeConsole(file=io.StringIO())))
    return run.record.run_id


def test_a_run_writes_its_own_deadline_into_its_copy_of_the_stack_file() -> None:
    run = reopen(started())
    assert run.record.deadline_hours == 2
    assert isinstance(run.cluster, StackCluster)
    assert run.cluster.facts.needs.deadline_hours == 2


def test_a_deadline_of_an_earlier_attempt_that_has_passed_does_not_stop_a_resume() -> None:
    run_id = started()
    folder = reopen(run_id).folder.pulumi_dir
    set_deadline("size-4", folder, "2020-01-01T00:00Z")
    reopen(run_id)
    assert stack_facts("size-4", folder).deadline == "after 2 hours"


def test_a_run_on_an_existing_cluster_records_its_nodes_and_those_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nodes = [node("a"), node("b"), node("c", unschedulable=True)]
    monkeypatch.setattr(
        "experiment.provision.existing_cluster.Kube", lambda *_, **__: ExistingKube(nodes)
    )
    new = NewRuns((), Path("s.yaml"), run_id="a", existing=write(tmp_path))
    view = PlainView(PipeSafeConsole(file=io.StringIO()))
    (run,) = begin(new, run_record().study, view)
    assert run.record.existing is not None
    assert run.record.existing.nodes == ("a", "b")
    assert run.record.warnings == ("Nodes that are left out: c (cordoned).",)
    nodes[2]["spec"].clear()
    assert reopen("a").cluster.node_count == 2


def test_miniclusters_are_refused_on_a_stack_without_their_operator() -> None:
    found = clusters(NewRuns(("size-4", "size-16-minicluster"), None))
    trials = [planned().model_copy(update={"view": planned().image})]
    require_operator([planned()], found["size-4"])
    require_operator(trials, found["size-16-minicluster"])
    with pytest.raises(PlanError, match="size-4 has no Flux Operator") as caught:
        require_operator(trials, found["size-4"])
    assert "--stack size-16-minicluster" in caught.value.fix


def test_each_cluster_of_a_stack_is_a_run_with_the_same_plan() -> None:
    new = NewRuns(("size-4", "size-8"), Path("s.yaml"), run_id="a", repeat_clusters=2)
    view = PlainView(PipeSafeConsole(file=io.StringIO()))
    runs = [planned.record for planned in begin(new, run_record().study, view)]
    assert [record.run_id for record in runs] == [
        "a-size-4-c1", "a-size-8-c1", "a-size-4-c2", "a-size-8-c2",
    ]  # fmt: skip
    assert len({(record.seed, record.trials) for record in runs}) == 1
