from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pytest
from rich.console import Console

from experiment.cli.plan import plan_data, plan_page
from experiment.plan.open_run import Place
from experiment.plan.trial_order import order_trials
from experiment.provision.stack_files import PROJECT_DIR
from experiment.provision.stack_settings import stack_facts
from schema.run_records import Layer, PlannedImage, PlannedTrial
from schema.study import Order, Study
from tests.experiment.plan.test_trial_order import image

MANIFESTS = (
    PROJECT_DIR.parent / "shared/data/container-chonks/manifests"
    / "run1-manifests-config-layers.json.gz"
)  # fmt: skip

BASE_BYTES = 2_220_027
"""Of busybox, which lies below all of the original study's images."""


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Place]:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    monkeypatch.delenv("PULL_STUDY_REHEARSAL", raising=False)
    return {name: Place(stack_facts(name, PROJECT_DIR)) for name in ("size-4", "size-256")}


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


def test_the_plan_as_data(stacks: dict[str, Place]) -> None:
    trials = order_trials(study(), IMAGES, 1)
    told = json.loads(json.dumps(plan_data(study(), 1, trials, orders(IMAGES, study()), stacks)))
    assert [trial["warm_bytes"] for trial in told["trials"]] == [0, 2000, 1000]
    assert [trial["warm"] for trial in told["trials"]] == [False, True, True]
    assert told["trials"][0]["reference"] == IMAGES[0].reference
    by_order = {each["order"]: each for each in told["orders"]}
    assert (by_order["ascending"]["warm_bytes"], by_order["ascending"]["warm_trials"]) == (3000, 2)
    assert by_order["descending"]["warm_bytes"] == 3000
    small, large = told["stacks"]
    assert (small["nodes"], small["cells"], large["cells"]) == (4, 12, 768)
    assert small["fits"]
    for stack in told["stacks"]:
        for name in ("hours", "usd"):
            assert stack[name]["lowest"] < stack[name]["expected"] < stack[name]["highest"]
        assert stack["usd"]["expected"] == pytest.approx(
            stack["hours"]["expected"] * stack["usd_per_hour"], rel=0.01
        )
    assert "original study" in told["rates"]
    assert told["rehearsal"] is None


def test_the_plan_as_a_page(stacks: dict[str, Place]) -> None:
    trials = order_trials(study(), IMAGES, 1)
    page = text_of(plan_page(study(), 1, trials, orders(IMAGES, study()), stacks))
    assert page.startswith("Study s: 3 trials, order ascending, 1 of each image.\n")
    assert "│ ascending  │ 0.0 MB │ 0.0 MB │               2 of 3 │" in page
    assert "100.0% warm-layers" in page
    assert "4 x n1-standard-16" in page
    assert "All together:" in page
    assert "TOO SMALL" not in page


def test_a_shuffled_plan_tells_its_seed_and_a_small_disk_is_said(stacks: dict[str, Place]) -> None:
    large = tuple(image(60_000_000_000 + n, f"l{n}") for n in range(3))
    shuffled = study(Order.SHUFFLED)
    trials = order_trials(shuffled, large, 7)
    page = text_of(plan_page(shuffled, 7, trials, orders(large, shuffled), stacks))
    assert "order shuffled, seed 7," in page
    assert "TOO SMALL" in page


def test_the_original_images_are_warm_by_their_common_base_in_any_order() -> None:
    if not MANIFESTS.is_file():
        pytest.skip(f"the original study's manifests are not in {MANIFESTS.parent}")
    images = _saved_images(json.loads(gzip.decompress(MANIFESTS.read_bytes())))
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
