"""Roofs: what every node reports, and what becomes of one that reports nothing."""

import json

import pytest

from experiment.measure.on_nodes.roofs import largest_layer, measure_roofs
from experiment.measure.staged_jobs import StagedJobs
from schema.run_records import PlannedImage, RoofRecord
from tests.experiment.cells import layered_image
from tests.experiment.conftest import NODES
from tests.experiment.fake_kube import FakeKube

TOOL = PlannedImage(repository="r/busybox", tag="1", digest="sha256:t", layers=())


@pytest.mark.parametrize(
    ("message", "rates", "note"),
    [
        (
            {"write": 4e8, "unpack": 2e8, "receive": 1e8, "note": ""},
            {"write_bytes_per_s": 4e8, "unpack_bytes_per_s": 2e8, "receive_bytes_per_s": 1e8},
            "",
        ),
        ({"write": 4e8, "unpack": None, "note": "denied"}, {"write_bytes_per_s": 4e8}, "denied"),
        ({"note": "simulated"}, {}, "simulated"),
        (None, {}, "the pod reported no rates: ''"),
        ([1], {}, "the pod reported no rates: '[1]'"),
    ],
)
def test_roofs_are_what_each_node_reports(
    kube: FakeKube, jobs: StagedJobs, message: object, rates: dict[str, float], note: str
) -> None:
    kube.message = json.dumps(message) if message else ""
    found = measure_roofs(
        jobs, TOOL, [layered_image("a", "x")], run_id="run", attempt=1, progress=lambda _: None
    )
    assert found == tuple(RoofRecord(node=node, note=note, **rates) for node in NODES)
    assert kube.deleted == ["run-r000-a1"]


def test_the_blob_is_the_largest_layer_of_the_study() -> None:
    small, other = layered_image("a", "x"), layered_image("b", "base", "y")
    largest = other.layers[1].model_copy(update={"size_bytes": 10**9})
    large = other.model_copy(update={"layers": (other.layers[0], largest)})
    assert largest_layer([small, large]) == (f"{large.repository}@{largest.digest}", 10**9)
    assert largest_layer([]) == ("", 0)
