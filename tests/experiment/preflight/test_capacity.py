from __future__ import annotations

from typing import Any

import pytest

from experiment.plan.cost import Estimate
from experiment.preflight.capacity import (
    check_cost,
    check_disk,
    check_exporter,
    check_registry_limits,
    check_traffic,
)
from experiment.preflight.findings import Level
from infra.components.event_exporter import CONFIGURATION
from schema.run_records import Layer, PlannedTrial
from tests.experiment.plan.test_trial_order import image

DEFAULTS: dict[str, Any] = {}


def trials(repository: str, layers: int = 1, count: int = 1) -> list[PlannedTrial]:
    found = []
    for number in range(1, count + 1):
        each = image(5000 + number, *(f"d{n}" for n in range(layers)))
        moved = each.model_copy(update={"repository": repository})
        found.append(PlannedTrial(trial=number, repetition=1, image=moved, warm_bytes=0))
    return found


def test_a_study_larger_than_the_disk_stops_with_the_disk_that_would_do() -> None:
    large = [
        PlannedTrial(trial=n, repetition=1, image=image(19034736629 + n, f"l{n}"), warm_bytes=0)
        for n in range(1, 6)
    ]
    (finding,) = check_disk(large, 100)
    assert finding.level is Level.STOP
    assert "need 95 GB unpacked, but a node has only 73 GB" in finding.text
    assert finding.fix == "pulumi config set pull-study:diskSizeGb 136, or split the study"
    (finding,) = check_disk(large, 136)
    assert finding.level is Level.OK


def test_planned_removals_are_shown() -> None:
    first = PlannedTrial(trial=1, repetition=1, image=image(5000, "x"), warm_bytes=0)
    again = first.model_copy(update={"trial": 2, "repetition": 2})
    findings = list(check_disk([first, again], 100))
    assert [finding.level for finding in findings] == [Level.OK, Level.OK]
    assert findings[1].text.startswith("before 1 trials")


@pytest.mark.parametrize(
    ("repository", "layers", "nodes", "private", "level"),
    [
        ("ghcr.io/a/b", 125, 256, False, Level.OK),
        ("us-central1-docker.pkg.dev/p/r/b", 125, 256, False, Level.OK),
        ("us-central1-docker.pkg.dev/p/r/b", 125, 512, False, Level.WARNING),
        ("docker.io/library/b", 1, 256, False, Level.OK),
        ("docker.io/library/b", 1, 256, True, Level.WARNING),
    ],
)
def test_registries_limits_against_the_nodes(
    repository: str, layers: int, nodes: int, private: bool, level: Level
) -> None:
    (finding,) = check_registry_limits(trials(repository, layers), nodes, private_nodes=private)
    assert finding.level is level


def test_many_images_of_docker_hub_throttle_each_node() -> None:
    (finding,) = check_registry_limits(trials("docker.io/a/b", count=101), 4, private_nodes=False)
    assert finding.level is Level.WARNING
    assert "101 pulls from one address, of 100 in six hours" in finding.text


def test_the_exporter_as_the_stack_declares_it_suffices_at_256_nodes_and_its_defaults_do_not() -> (
    None
):
    import yaml

    (declared,) = check_exporter(yaml.safe_load(CONFIGURATION), 256)
    assert declared.level is Level.OK
    (default,) = check_exporter(DEFAULTS, 16)
    assert default.level is Level.STOP
    assert (
        "accepts events up to 5 s old, looks up objects, and sends up to 5 requests" in default.text
    )


def estimate(usd: float, hours: float, traffic_usd: float = 0.0) -> Estimate:
    return Estimate((), (hours / 2, hours, hours * 2), traffic_usd, (usd / 2, usd, usd * 2))


@pytest.mark.parametrize(
    ("budget", "levels"),
    [(None, ["ok", "ok"]), (20.0, ["ok", "ok"]), (5.0, ["warning", "ok"])],
)
def test_a_budget_below_the_expected_cost_is_a_warning(
    budget: float | None, levels: list[str]
) -> None:
    findings = list(check_cost(estimate(10, 2), budget, 12))
    assert [finding.level for finding in findings] == levels


def test_a_run_longer_than_the_clusters_life_is_a_warning() -> None:
    findings = list(check_cost(estimate(10, 8), None, 12))
    assert findings[1].level is Level.WARNING
    assert findings[1].fix == "pulumi config set pull-study:deadlineHours 24"


def test_a_layer_that_two_images_share_is_on_the_disk_once() -> None:
    shared = Layer(digest="sha256:s", size_bytes=4_000_000_000, diff_id="s")
    both = [
        PlannedTrial(
            trial=n,
            repetition=1,
            image=image(9_000_000_000 + n, "x").model_copy(update={"layers": (shared,)}),
            warm_bytes=0,
        )
        for n in (1, 2)
    ]
    (finding,) = check_disk(both, 100)
    assert finding.text.startswith("images need 22.0 GB")


def test_private_nodes_are_told_of_the_registry_that_costs_no_traffic() -> None:
    assert list(check_traffic(estimate(10, 2))) == []
    (finding,) = check_traffic(estimate(700, 2, traffic_usd=600.0))
    assert finding.level is Level.WARNING
    assert "for about 600.00 USD of this run" in finding.text
    assert "Private Google Access" in finding.fix
