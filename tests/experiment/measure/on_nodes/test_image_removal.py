import hashlib
import json

import pytest

from experiment.measure.on_nodes.image_removal import (
    Left,
    Remover,
    chain_ids,
    read_answer,
    read_proof,
    removal_argument,
)
from experiment.measure.staged_jobs import StagedJobs
from schema.run_records import PlannedImage
from tests.experiment.cells import layered_image
from tests.experiment.conftest import NODES, Story
from tests.experiment.fake_kube import FakeKube

A, B = layered_image("a", "base", "x"), layered_image("b", "base", "y")


@pytest.mark.parametrize(
    ("message", "absent", "left"),
    [
        ('[{"image":false,"layers":[],"partial":0}]', True, 0),
        ('[{"image":false,"layers":[0],"partial":0}]', True, 500_000),
        ('[{"image":false,"layers":[1],"partial":0}]', False, 500_000),
        ('[{"image":true,"layers":[0,1],"partial":0}]', False, 1_000_000),
        ("", False, 0),
    ],
)
def test_absence_is_what_each_node_reports(  # noqa: PLR0917
    kube: FakeKube, jobs: StagedJobs, story: Story, message: str, absent: bool, left: int
) -> None:
    kube.message = message
    own = story.planned.image
    other = own.model_copy(update={"digest": "sha256:o", "layers": own.layers[:1]})
    tool = PlannedImage(repository="r/busybox", tag="1", digest="sha256:t", layers=())
    remover = Remover(jobs, tool, run_id="run", attempt=1)
    records = remover.remove(story.planned, [other], lambda _pods: None)
    assert [record.node for record in records] == list(NODES)
    assert {(record.absent, record.left_bytes) for record in records} == {(absent, left)}
    assert all(record.absent or record.detail for record in records)
    assert kube.deleted == ["run-r001-a1"]


def test_snapshots_are_named_by_the_chain_of_layers() -> None:
    second = f"sha256:{hashlib.sha256(b'base x').hexdigest()}"
    assert chain_ids(A) == ["base", second]
    assert removal_argument(A).splitlines() == [
        "sha256:a",
        "sha256:a-base base",
        f"sha256:a-x {second}",
    ]


@pytest.mark.parametrize(
    ("left", "why", "kept"),
    [
        (Left(known=True, layers=(), partial=0), "still has", 0),
        (Left(known=False, layers=(1,), partial=0), "sha256:a-x", 100),
        (Left(known=False, layers=(), partial=2), "partly fetched", 0),
        (Left(known=False, layers=(0,), partial=0), "", 100),  # another image has it
    ],
)
def test_absence_is_proved_where_only_other_images_layers_are_left(
    left: Left, why: str, kept: int
) -> None:
    reason, kept_bytes = read_proof(A, left, [B])
    assert why in reason
    assert bool(why) == bool(reason)
    assert kept_bytes == kept


def test_an_answer_is_read() -> None:
    text = json.dumps([{"image": False, "layers": [0, 3], "partial": 1}])
    assert read_answer(text, 1) == [Left(known=False, layers=(0, 3), partial=1)]


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1]", '[{"image": true}]', "not JSON"])
def test_anything_else_is_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_answer(text, 1)
