from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiment.errors import PlanError
from experiment.plan.request import (
    NewRuns,
    check_new,
    check_resumed,
    chosen_stacks,
    existing_cluster,
    rehearsal_options,
)
from schema.study import Order

STUDY = Path(__file__).parents[3] / "studies" / "smoke.yaml"


def new(**changes: Any) -> NewRuns:
    fields: dict[str, Any] = {"stacks": ("size-4",), "study": STUDY}
    return NewRuns(**(fields | changes))


def test_all_sizes_are_the_stacks_named_by_their_size_smallest_first() -> None:
    sizes = ("size-4", "size-8", "size-16", "size-32", "size-64", "size-128", "size-256")
    assert chosen_stacks(None, all_sizes=True) == sizes


def test_a_stack_named_twice_is_measured_once() -> None:
    assert chosen_stacks(["size-8", "size-4", "size-8"], all_sizes=False) == ("size-8", "size-4")


def test_all_sizes_and_named_ones_are_refused() -> None:
    with pytest.raises(PlanError, match="--all-sizes is every stack named size-N"):
        chosen_stacks(["size-4"], all_sizes=True)


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"nodes": "simulated"}, "--nodes"),
        ({"speed": 20.0}, "--speed"),
        ({"fault": ["google-quota"]}, "--fault"),
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
    assert caught.value.problem == (
        f"{option} belongs to a rehearsal, and a real cluster cannot follow it."
    )
    assert "--rehearse" in caught.value.fix


def test_a_rehearsal_is_told_what_was_given_and_no_more() -> None:
    assert rehearsal_options(rehearse=True) == {}
    told = rehearsal_options(
        rehearse=True,
        nodes="simulated",
        speed=20.0,
        fault=["a:x=1", "b"],
        faults=Path("f"),
        rate_limits=False,
    )
    assert told == {
        "nodes": "simulated",
        "speed": 20.0,
        "rate_limits": False,
        "faults": ("a:x=1", "b", "@f"),
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"speed": 20.0}, "needs simulated ones"),
        ({"speed": 0.5, "nodes": "simulated"}, "is no such number"),
        ({"speed": 5000.0, "nodes": "simulated"}, "is no such number"),
        ({"scale": 0.0}, "is no fraction"),
    ],
)
def test_values_that_cannot_be_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        rehearsal_options(rehearse=True, **given)


def test_an_existing_cluster_needs_its_file(tmp_path: Path) -> None:
    assert existing_cluster(None, "", "") is None
    with pytest.raises(PlanError, match="no kubeconfig says how to reach it"):
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
    check_new(new())
    check_new(new(stacks=(), existing=existing))
    with pytest.raises(PlanError, match="has one of them"):
        check_new(new(existing=existing))
    with pytest.raises(PlanError, match="what to pull and where"):
        check_new(new(stacks=()))


@pytest.mark.parametrize(
    "said",
    [{"study": STUDY}, {"seed": 0}, {"order": Order.ASCENDING}, {"repeat": 2}, {"staging": False}],
)
def test_a_resumed_run_is_not_planned_anew(said: dict[str, Any]) -> None:
    check_resumed(NewRuns((), None, budget_usd=5.0))
    with pytest.raises(PlanError, match="have no place beside it"):
        check_resumed(new(**({"stacks": (), "study": None} | said)))


def test_options_change_what_the_study_says() -> None:
    study = new(order=Order.DESCENDING, repeat=3).read_study()
    assert (study.order, study.repetitions) == (Order.DESCENDING, 3)
    assert new().read_study().repetitions == 1
