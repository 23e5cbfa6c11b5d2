from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from experiment.errors import PlanError
from experiment.plan.request import (
    LARGEST_OF_ALL,
    NewRuns,
    RunOptions,
    check_resumed,
    chosen_stacks,
    existing_cluster,
    read_study,
    rehearsal_options,
    with_default_kubeconfig,
)
from schema.run_records import ExistingCluster
from schema.study import Order, Workload

ROOT = Path(__file__).parents[3]
STUDY = ROOT / "studies" / "smoke.yaml"


def new(**changes: Any) -> NewRuns:
    fields: dict[str, Any] = {"stacks": ("size-4",), "study": STUDY}
    return NewRuns(**(fields | changes))


def test_all_sizes_are_the_stacks_named_by_their_size_smallest_first() -> None:
    sizes = chosen_stacks(None, all_sizes=True)
    counts = [int(name.removeprefix("size-")) for name in sizes]
    assert counts == sorted(counts)
    assert {4, 256} <= set(counts)
    assert counts[-1] <= LARGEST_OF_ALL
    files = {path.name for path in ROOT.glob("Pulumi.size-*.yaml")}
    assert {f"Pulumi.{name}.yaml" for name in sizes} <= files


def test_a_stack_named_twice_is_measured_once() -> None:
    assert chosen_stacks(["size-8", "size-4", "size-8"], all_sizes=False) == ("size-8", "size-4")


def test_all_sizes_and_named_ones_are_refused() -> None:
    with pytest.raises(PlanError, match="--all-sizes and --stack exclude"):
        chosen_stacks(["size-4"], all_sizes=True)


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"nodes": "simulated"}, "--nodes"),
        ({"speed": 20.0}, "--speed"),
        ({"fault": ["google:how=quota"]}, "--fault"),
        ({"faults": Path("faults.txt")}, "--fault"),
        ({"rate_limits": False}, "--no-rate-limits"),
        ({"scale": 0.1}, "--scale"),
    ],
)
def test_what_only_a_rehearsal_has_is_refused_without_one(
    given: dict[str, Any], option: str
) -> None:
    with pytest.raises(PlanError) as caught:
        rehearsal_options(rehearse=False, **given)
    assert caught.value.problem == (f"{option} is an option of rehearsals and requires --rehearse.")
    assert "--rehearse" in caught.value.fix


def test_a_rehearsal_gets_only_the_options_that_were_given() -> None:
    assert rehearsal_options(rehearse=True) == {}
    given = rehearsal_options(
        rehearse=True,
        nodes="simulated",
        speed=20.0,
        fault=["a:x=1", "b"],
        faults=Path("f"),
        rate_limits=False,
    )
    assert given == {
        "nodes": "simulated",
        "speed": 20.0,
        "rate_limits": False,
        "faults": ("a:x=1", "b", "@f"),
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"speed": 20.0}, "requires simulated nodes"),
        ({"speed": 0.5, "nodes": "simulated"}, "must be between 1 and 1000"),
        ({"speed": 5000.0, "nodes": "simulated"}, "must be between 1 and 1000"),
        ({"scale": 0.0}, "above 0 and at most 1"),
    ],
)
def test_values_that_cannot_be_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        rehearsal_options(rehearse=True, **given)


def test_an_existing_cluster_needs_its_file(tmp_path: Path) -> None:
    assert existing_cluster(None, "", "") is None
    with pytest.raises(PlanError, match="require --kubeconfig"):
        existing_cluster(None, "a-context", "")
    with pytest.raises(PlanError, match="There is no kubeconfig at"):
        existing_cluster(tmp_path / "none", "", "")
    (tmp_path / "config").write_text("{}")
    found = existing_cluster(tmp_path / "config", "c", "a=b")
    assert found is not None
    assert (found.kubeconfig, found.context, found.selector) == (
        str(tmp_path / "config"),
        "c",
        "a=b",
    )


def test_a_new_run_has_a_stack_or_a_cluster_and_not_both(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("{}")
    existing = existing_cluster(tmp_path / "config", "", "")
    read_study(new())
    read_study(new(stacks=(), existing=existing))
    with pytest.raises(PlanError, match="exclude each other"):
        read_study(new(existing=existing))
    with pytest.raises(PlanError, match="A new run needs --study"):
        read_study(new(stacks=()))


@pytest.mark.parametrize(
    "given",
    [{"study": STUDY}, {"seed": 0}, {"order": Order.ASCENDING}, {"repeat": 2}, {"staging": False}],
)
def test_a_resumed_run_is_not_planned_again(given: dict[str, Any]) -> None:
    check_resumed(NewRuns((), None, budget_usd=5.0))
    with pytest.raises(PlanError, match="cannot be combined"):
        check_resumed(new(**({"stacks": (), "study": None} | given)))


def test_a_run_stays_in_its_zone() -> None:
    with pytest.raises(PlanError, match="in the zone where it measured"):
        check_resumed(NewRuns((), None, zones=("us-east1-b",)))
    existing = ExistingCluster(kubeconfig="config", context="", selector="")
    with pytest.raises(PlanError, match="--zone and --kubeconfig exclude"):
        read_study(new(stacks=(), zones=("us-east1-b",), existing=existing))


def test_options_override_the_study_file() -> None:
    study = read_study(new(order=Order.DESCENDING, repeat=3))
    assert (study.order, study.repetitions) == (Order.DESCENDING, 3)
    assert read_study(new()).repetitions == 1


def test_a_study_without_a_view_cannot_run_miniclusters() -> None:
    with pytest.raises(
        PlanError, match="minicluster: workload minicluster needs flux_view"
    ) as caught:
        read_study(new(workload=Workload.MINICLUSTER))
    assert "studies/minicluster.yaml shows the form" in caught.value.fix


def test_every_option_of_a_run_is_passed_to_the_runs_of_several_stacks() -> None:
    assert RunOptions().child_arguments() == ["--yes", "--json-log"]
    assert "--keep-cluster" in RunOptions(keep_cluster=True).child_arguments()
    spans = RunOptions(spans=Path("a.jsonl")).child_arguments()
    assert spans[-2:] == ["--spans", "a.jsonl"]
    passed_on = {"keep_cluster", "spans"}
    of_the_parent = {"assume_yes", "quiet", "json_log", "parallel", "output"}
    assert {each.name for each in fields(RunOptions)} == passed_on | of_the_parent


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("", "HOME/.kube/config"), ("/a/config", "/a/config")],
)
@pytest.mark.parametrize("after", [["--yes"], []])
def test_kubeconfig_without_a_value_is_the_file_that_kubectl_uses(
    monkeypatch: pytest.MonkeyPatch, variable: str, expected: str, after: list[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", variable)
    monkeypatch.setenv("HOME", "HOME")
    given = ["run", "--kubeconfig", *after]
    assert with_default_kubeconfig(given) == ["run", f"--kubeconfig={expected}", *after]


def test_a_kubeconfig_that_is_named_stays_and_one_of_several_must_be_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/a:/b")
    given = ["run", "--kubeconfig", "mine", "--yes"]
    assert with_default_kubeconfig(given) == given
    with pytest.raises(PlanError, match="names 2 files, and a run reads one: /a, /b"):
        with_default_kubeconfig(["plan", "--kubeconfig"])


@pytest.mark.parametrize(
    ("changes", "keep_cluster", "other"),
    [
        ({}, True, "--keep-cluster"),
        (
            {"stacks": (), "existing": ExistingCluster(kubeconfig="k", context="", selector="")},
            False,
            "--kubeconfig",
        ),
    ],
)
def test_several_clusters_of_a_stack_need_each_to_be_deleted(
    changes: dict[str, Any], keep_cluster: bool, other: str
) -> None:
    with pytest.raises(PlanError, match=f"--repeat-clusters and {other} exclude"):
        read_study(new(repeat_clusters=3, **changes), keep_cluster=keep_cluster)
    assert read_study(new(repeat_clusters=3)).name == "smoke"


def test_a_resumed_run_is_one_cluster() -> None:
    with pytest.raises(PlanError, match="--repeat-clusters"):
        check_resumed(NewRuns((), None, repeat_clusters=2))
