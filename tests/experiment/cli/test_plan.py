from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiment.cli.plan import plan_page, plan_rows
from experiment.plan.trial_order import order_trials
from experiment.provision.cluster import Cluster
from experiment.provision.existing_cluster import ExistingCluster
from experiment.provision.stack_cluster import StackCluster
from schema.output import Output
from schema.output import text_of as text_of_rows
from schema.project_files import PROJECT_DIR
from schema.run_records import Layer, PlannedImage, PlannedTrial
from schema.study import Order, Study
from tests.experiment.plan.test_trial_order import image
from tests.experiment.provision.test_existing_cluster import FakeKube as ExistingKube
from tests.experiment.provision.test_existing_cluster import node, write
from tests.recorded_data import recorded

BASE_BYTES = 2_220_027
"""Of busybox, which lies below all of the original study's images."""


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Cluster]:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    monkeypatch.delenv("PULL_STUDY_REHEARSAL", raising=False)
    return {name: StackCluster(name, PROJECT_DIR) for name in ("size-4", "size-256")}


def study(order: Order = Order.ASCENDING) -> Study:
    tags = ["2-layers-size-5000-bytes", "2-layers-size-7000-bytes", "2-layers-size-9000-bytes"]
    return Study.model_validate(
        {"name": "s", "order": order, "images": [{"repository": "ghcr.io/a/b", "tags": tags}]}
    )


IMAGES = (image(5000, "base", "x"), image(7000, "base", "x"), image(9000, "base", "z"))


def orders(images: tuple[PlannedImage, ...], of: Study) -> dict[Order, tuple[PlannedTrial, ...]]:
    return {
        order: order_trials(of.model_copy(update={"order": order}), images, 1) for order in Order
    }


def text_of(parts: Any, width: int = 120) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width)
    for part in parts:
        console.print(part)
    return out.getvalue()


def test_the_plan_as_data(stacks: dict[str, Cluster]) -> None:
    trials = order_trials(study(), IMAGES, 1)
    shown: Any = plan_rows(study(), 1, trials, stacks)
    assert [trial["warm_bytes"] for trial in shown["trials"]] == [0, 2000, 1000]
    assert [trial["warm"] for trial in shown["trials"]] == [False, True, True]
    assert shown["trials"][0]["reference"] == IMAGES[0].reference
    small, large = shown["clusters"]
    assert (small["nodes"], small["cells"], large["cells"]) == (4, 12, 768)
    assert small["fits"]
    for stack in shown["clusters"]:
        for name in ("hours", "usd"):
            assert stack[f"{name}_lowest"] < stack[f"{name}_expected"] < stack[f"{name}_highest"]
        assert stack["usd_expected"] == pytest.approx(
            stack["hours_expected"] * stack["usd_per_hour"], rel=0.01
        )
        assert (stack["traffic_usd"], stack["deleted"]) == (0, "after 2 hours")
    (whole,) = shown["study"]
    assert "original study" in whole["rates"]
    assert whole["rehearsal"] is None
    assert [(each["stack"], each["trial"]) for each in shown["durations"]] == [
        (stack, trial) for stack in ("size-4", "size-256") for trial in (1, 2, 3)
    ]


def test_the_plan_has_the_same_rows_as_json_csv_and_markdown(stacks: dict[str, Cluster]) -> None:
    tables = plan_rows(study(), 1, order_trials(study(), IMAGES, 1), stacks)
    told = json.loads(text_of_rows(Output.JSON, tables))
    written = list(csv.DictReader(io.StringIO(text_of_rows(Output.CSV, tables))))
    assert [row["table"] for row in told] == [row["table"] for row in written]
    assert {row["table"] for row in told} == {*tables}
    page = text_of_rows(Output.MARKDOWN, tables)
    assert sum(line.startswith("| ") for line in page.splitlines()) == len(told) + 2 * len(tables)


def test_the_plan_as_a_page(stacks: dict[str, Cluster]) -> None:
    trials = order_trials(study(), IMAGES, 1)
    page = text_of(plan_page(study(), 1, trials, stacks))
    assert page.startswith("Study s: 3 trials, order ascending, repetitions per image: 1.\n")
    assert "100.0% warm-layers" in page
    assert "4 x n1-standard-16" in page
    assert "Total:" in page
    assert "Whatever happens, Google deletes size-4 after 2 hours, size-256 after 2 hours." in page
    assert "Not included: logs above 50 GiB a month (0.50 USD a GiB)" in " ".join(page.split())
    assert "TOO SMALL" not in page


def test_a_shuffled_plan_shows_its_seed_and_a_disk_that_is_too_small(
    stacks: dict[str, Cluster],
) -> None:
    large = tuple(image(60_000_000_000 + n, f"l{n}") for n in range(3))
    shuffled = study(Order.SHUFFLED)
    trials = order_trials(shuffled, large, 7)
    page = text_of(plan_page(shuffled, 7, trials, stacks))
    assert "order shuffled, seed 7," in page
    assert "TOO SMALL" in page


def test_the_original_images_are_warm_by_their_common_base_in_any_order() -> None:
    saved = recorded("manifests/run1-manifests-config-layers.json.gz")
    images = _saved_images(json.loads(gzip.decompress(saved.read_bytes())))
    assert len(images) == 38
    for trials in orders(images, study()).values():
        first, *others = trials
        assert first.warm_bytes == 0
        assert {trial.warm_bytes for trial in others} == {BASE_BYTES}
        assert all(trial.warm_bytes > 0.01 * trial.image.compressed_bytes for trial in others)


def _saved_images(saved: dict[str, Any]) -> tuple[PlannedImage, ...]:
    found = []
    for tag, manifest in saved["manifests"].items():
        diffs = saved["configs"][tag]["rootfs"]["diff_ids"]
        layers = tuple(
            Layer(digest=blob["digest"], size_bytes=blob["size"], diff_id=diff)
            for blob, diff in zip(manifest["layers"], diffs, strict=True)
        )
        found.append(
            PlannedImage(repository="ghcr.io/a/b", tag=tag, digest=f"sha256:{tag}", layers=layers)
        )
    return tuple(found)


def test_the_plan_says_what_the_study_can_answer(stacks: dict[str, Cluster]) -> None:
    sizes = tuple(image(size, "base", str(size)) for size in (5000, 7000, 9000, 20000))
    trials = order_trials(study(), sizes, 1)
    shown: Any = plan_rows(study(), 1, trials, stacks)["questions"]
    by_contrast = {question["contrast"]: question for question in shown}
    size, clusters = by_contrast["size"], by_contrast["cluster-size"]
    assert size["answered"]
    assert size["finds_0.05"] < size["finds_0.2"]
    assert (clusters["answered"], clusters["why"]) == (False, "one cluster each")
    text = " ".join(text_of(plan_page(study(), 1, trials, stacks)).split())
    assert "no answer: one cluster each" in text
    assert "Fix: --repeat-clusters 3" in text
    assert "Assumed: nodes vary by 5 %" in text


def test_the_cost_of_an_existing_cluster_is_unknown_and_nodes_that_are_left_out_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nodes = [node("a"), node("b", unschedulable=True)]
    monkeypatch.setattr(
        "experiment.provision.existing_cluster.Kube", lambda *_, **__: ExistingKube(nodes)
    )
    where: dict[str, Cluster] = {"mine": ExistingCluster(write(tmp_path))}
    trials = order_trials(study(), IMAGES, 1)
    (shown,) = plan_rows(study(), 1, trials, where)["clusters"]
    assert (shown["usd_expected"], shown["usd_per_hour"], shown["traffic_usd"]) == (
        None,
        None,
        None,
    )
    assert shown["left_out"] == {"b": "cordoned"}
    page = " ".join(text_of(plan_page(study(), 1, trials, where)).split())
    assert "unknown │ unknown" in page
    assert "mine: Nodes that are left out: b (cordoned)." in page
    assert "Cloud Logging" not in page


def test_several_clusters_of_each_stack_are_counted(stacks: dict[str, Cluster]) -> None:
    trials = order_trials(study(), IMAGES, 1)
    data: Any = plan_rows(study(), 1, trials, stacks, 3)
    assert data["study"][0]["clusters_of_each_stack"] == 3
    (size,) = (each for each in data["questions"] if each["contrast"] == "cluster-size")
    assert size["rests_on"] == "6 clusters"
    total = 3 * sum(stack["usd_expected"] for stack in data["clusters"])
    text = text_of(plan_page(study(), 1, trials, stacks, 3))
    assert f"Total, 3 clusters of each stack: {total:.2f} USD" in text
