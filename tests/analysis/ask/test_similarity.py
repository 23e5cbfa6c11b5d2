"""Manifests, and how alike images are."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from analysis.ask.similarity import (
    cluster_order,
    common_base,
    compare_images,
    jaccard,
    write_images,
    write_similarities,
)
from analysis.read.manifests import ManifestError, read_all, read_manifests
from analysis.show.figure_files import write_similarity_plots
from schema.run_records import Rehearsal
from tests.analysis.recorded import Json, write_run_folder

BASE = "sha256:base"


def saved(folder: Path, *, zipped: bool = False) -> Path:
    """Three images: two share a layer beside the base, the third shares the base alone."""
    layers = {
        "2-layers-size-2000-bytes": ["a", "b"],
        "3-layers-size-3000-bytes": ["a", "c", "d"],
        "1-layers-size-1000-bytes": ["e"],
    }
    manifests: Json = {}
    configs: Json = {}
    for tag, digests in layers.items():
        manifests[tag] = {
            "schemaVersion": 2,
            "layers": [{"digest": d, "size": 100} for d in [BASE, *digests]],
        }
        steps = [f"/bin/sh -c head -c 1000 /dev/zero > {digest}.txt" for digest in digests]
        configs[tag] = {"history": [{"created_by": step} for step in ["BusyBox 1.36", *steps]]}
    manifests["an-index"] = {"schemaVersion": 2, "manifests": []}
    text = json.dumps({"manifests": manifests, "configs": configs, "tags": list(manifests)})
    path = folder / "manifests.json"
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_saved_manifests(tmp_path: Path, zipped: bool) -> None:
    images = read_manifests(saved(tmp_path, zipped=zipped))
    assert [image.tag for image in images] == [
        "1-layers-size-1000-bytes",
        "2-layers-size-2000-bytes",
        "3-layers-size-3000-bytes",
    ]
    assert images[2].compressed_bytes == 400
    assert (images[2].unpacked_bytes, images[2].unpacked_from) == (3000, "steps")
    assert images[2].ratio == 7.5
    assert images[0].steps == ("busybox1.36", "/bin/sh-chead-c1000/dev/zero>e.txt")


def test_the_plan_of_a_run(tmp_path: Path) -> None:
    images = read_manifests(write_run_folder(tmp_path))
    assert len(images) == 3
    assert images[0].unpacked_from == "tag"
    assert images[0].steps == ()
    assert compare_images(images).build_steps is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "has no manifests"),
        ('{"manifests": {}}', "has no manifests"),
    ],
)
def test_a_file_without_manifests(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ManifestError, match=said):
        read_manifests(path)
    with pytest.raises(ManifestError, match="no file"):
        read_manifests(tmp_path / "none.json")


def test_jaccard() -> None:
    found = jaccard([frozenset("abc"), frozenset("bcd"), frozenset(), frozenset()])
    assert found[0, 1] == 0.5
    assert found[0, 2] == 0
    assert found[2, 3] == 1
    assert (np.diag(found) == 1).all()
    assert (found == found.T).all()


def test_the_base_is_what_all_have_from_the_first_layer_on() -> None:
    assert common_base([("a", "b", "c"), ("a", "b", "d"), ("a", "b")]) == ("a", "b")
    assert common_base([("a", "b"), ("b", "a")]) == ()
    assert common_base([("a", "b")]) == ()


def test_with_and_without_the_base(tmp_path: Path) -> None:
    similar = compare_images(read_manifests(saved(tmp_path)))
    assert similar.base == (BASE,)
    one, two, three = range(3)
    assert similar.layers[two, three] == pytest.approx(2 / 5)
    assert similar.layers[one, two] == pytest.approx(1 / 4)
    assert similar.layers_without_base[two, three] == pytest.approx(1 / 4)
    assert similar.layers_without_base[one, two] == 0
    assert similar.build_steps is not None
    assert similar.build_steps[two, three] == pytest.approx(2 / 5)


def test_tables_have_tags_as_labels(tmp_path: Path) -> None:
    images = read_all([saved(tmp_path)])
    paths = write_similarities(compare_images(images), tmp_path / "out")
    assert [path.name for path in paths] == [
        "similarity_layers.csv",
        "similarity_layers_without_base.csv",
        "similarity_build_steps.csv",
    ]
    with paths[0].open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["tag", *(image.tag for image in images)]
    assert [row[0] for row in rows[1:]] == rows[0][1:]
    assert rows[1][1] == "1"
    images_csv, layers_csv = write_images(images, tmp_path / "out")
    assert "3-layers-size-3000-bytes,4,400,3000,steps,7.5" in images_csv.read_text()
    assert len(layers_csv.read_text().splitlines()) == 1 + 3 + 4 + 2


def test_alike_images_stand_side_by_side() -> None:
    sets = [frozenset(s) for s in ("abx", "mnx", "aby", "mny")]
    order = cluster_order(jaccard(sets))
    assert abs(order.index(0) - order.index(2)) == 1
    assert abs(order.index(1) - order.index(3)) == 1
    assert cluster_order(np.eye(2)) == [0, 1]


def test_pictures(tmp_path: Path) -> None:
    images = read_manifests(saved(tmp_path))
    paths = write_similarity_plots(compare_images(images), images, tmp_path / "out")
    assert len(paths) == 8
    assert "3-layers-size-3000-bytes" in paths[0].read_text()
    assert paths[1].read_bytes().startswith(b"\x89PNG")


def test_what_a_rehearsal_planned_is_marked(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path / "r", rehearsal=Rehearsal(nodes="simulated", scale=1))
    images = read_all([run])
    paths = write_similarity_plots(compare_images(images), images, tmp_path / "out")
    drawn = [path.read_text() for path in paths if path.suffix == ".svg"]
    assert drawn
    assert all("SIMULATED NODES" in text for text in drawn)
    table, _ = write_images(images, tmp_path / "out")
    assert table.read_text().count(",simulated nodes") == len(images)


def test_images_of_the_original_study(chonks: Path) -> None:
    images = read_manifests(chonks / "manifests" / "run1-manifests-config-layers.json.gz")
    assert len(images) == 38
    largest = next(i for i in images if i.tag == "9-layers-size-19034736629-bytes")
    assert len(largest.layers) == 9
    assert largest.compressed_bytes == pytest.approx(20.7e6, rel=0.01)
    assert largest.ratio == pytest.approx(919, abs=2)
    similar = compare_images(images)
    assert len(similar.base) == 1
    off = ~np.eye(38, dtype=bool)
    assert (similar.layers[off] > 0).all()
    assert similar.layers_without_base[off].max() == 0


def test_seventy_one_images_agree_with_a_count_by_hand(chonks: Path) -> None:
    images = read_manifests(chonks / "manifests" / "test-manifests-config-layers.json.gz")
    assert len(images) == 71
    found = compare_images(images).layers
    sets = [{layer.digest for layer in image.layers} for image in images]
    for i, j in ((0, 1), (5, 60), (70, 3), (12, 13)):
        assert found[i, j] == pytest.approx(len(sets[i] & sets[j]) / len(sets[i] | sets[j]))
