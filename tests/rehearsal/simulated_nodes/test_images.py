"""Images on simulated nodes: layers, disk, and the registry that describes images without bytes."""

from __future__ import annotations

import pytest

from images.make.manifest import read_image
from rehearsal.simulated_nodes.disk import SYSTEM_BYTES, ImageStore, StoredImage, StoredLayer
from rehearsal.simulated_nodes.manifests import make_claim
from rehearsal.simulated_nodes.process import parse_quantity
from schema.image_tag import parse_tag

GB = 10**9


def image(name: str, *layers: tuple[str, int]) -> StoredImage:
    stored = tuple(StoredLayer(diff_id, size // 2, size) for diff_id, size in layers)
    return StoredImage(f"r@{name}", sum(layer.compressed for layer in stored), stored)


def test_a_layer_is_on_a_node_once() -> None:
    store = ImageStore(100 * GB)
    one, other = image("1", ("a", GB), ("b", GB)), image("2", ("a", GB), ("c", GB))
    store.add("one", one)
    assert store.missing(other) == [other.layers[1]]
    store.add("other", other)
    store.add("same", other)
    assert store.image_bytes == 4.5 * GB
    assert store.remove("one") == [0]
    assert store.image_bytes == 3 * GB
    assert [store.find(name) for name in ("one", "other", "same")] == [None, other, other]
    assert store.remove("one") == []
    assert store.remove("other") == []
    assert store.find("same") is None


def test_what_is_left_of_the_disk_decides_what_fits() -> None:
    store = ImageStore(100 * GB)
    store.add("i", image("1", ("a", 60 * GB)))
    assert store.available == 10 * GB - SYSTEM_BYTES
    assert store.fits([StoredLayer("b", GB, 3 * GB)])
    assert not store.fits([StoredLayer("b", GB, 4 * GB)])


def test_the_status_names_at_most_fifty_images_largest_first() -> None:
    store = ImageStore(100 * GB)
    for number in range(60):
        store.add(f"i{number}", image(str(number), (str(number), number + 1)))
    status = store.largest()
    assert len(status) == 50
    assert status[0]["names"] == ["r@59", "i59"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("98831908Ki", 98831908 * 1024), ("96512Mi", 96512 * 2**20), ("100", 100)],
)
def test_a_quantity_is_read_in_any_unit(text: str, size: int) -> None:
    assert parse_quantity(text) == size


def test_a_claim_has_the_form_of_an_image_and_is_marked_as_simulated() -> None:
    claim = make_claim("owner/chonks", parse_tag("9-layers-size-900000000-bytes"), 1.0)
    found = read_image("x", claim.manifest, claim.config)
    assert len(found.layers) == 9
    assert {layer.size for layer in found.layers} == {50_000_000}
    assert found.making is not None
    assert found.making.unpacked == (100_000_000,) * 9
    assert "simulated" in found.making.origin.compressor
    assert claim == make_claim("owner/chonks", parse_tag("9-layers-size-900000000-bytes"), 1.0)


def test_images_of_the_original_study_are_claimed_as_they_are() -> None:
    tag = parse_tag("9-layers-size-19034736629-bytes")
    claim = make_claim("converged-computing/container-chonks-run1", tag, 1.0)
    layers = read_image("x", claim.manifest, claim.config).layers
    told = len(claim.manifest) + len(claim.config) + sum(layer.size for layer in layers)
    assert told == pytest.approx(20_726_499, rel=0.01)  # its recorded events


def test_claims_share_layers_where_images_would() -> None:
    def layers(tag: str) -> list[str]:
        claim = make_claim("owner/chonks", parse_tag(tag), 1.0)
        return [layer.diff_id for layer in read_image("x", claim.manifest, claim.config).layers]

    first, second = layers("8-layers-size-8000-bytes-v1"), layers("8-layers-size-8000-bytes-v2x1")
    assert first[:7] == second[:7]
    assert first[7] != second[7]
    assert set(layers("8-layers-size-8000-bytes-b")).isdisjoint(first)
