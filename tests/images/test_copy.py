from pathlib import Path

import pytest

from images.copy import copy_image
from images.errors import BadImageError, BaseError, PlanError, TagExistsError
from images.make.build import build_image
from images.make.push import BuiltImage
from images.registry.client import Registry
from images.registry.upload import upload_bytes
from images.verify import verify_image
from schema.image_tag import ImageTag
from tests.images.local_registry import LocalRegistry, run_registry


@pytest.fixture(scope="module")
def base(registry: LocalRegistry) -> BuiltImage:
    return build_image(ImageTag(2, 700_000), registry.target("base", tag="base"))


def test_a_copy_elsewhere_has_the_same_digest(registry: LocalRegistry, tmp_path: Path) -> None:
    built = build_image(ImageTag(5, 9_000_000), registry.target("origin"))
    with run_registry(tmp_path / "other") as other:
        copied = copy_image(built.target, other.target("copy"))
        assert (copied.digest, copied.target.tag) == (built.digest, built.target.tag)
        assert copied.sent == built.compressed
        with Registry(other.name) as client:
            assert verify_image(client, copied.target).faults == ()
        assert copy_image(built.target, other.target("copy")).sent == 0


def test_a_copy_in_the_same_registry_moves_no_layer(registry: LocalRegistry) -> None:
    built = build_image(ImageTag(5, 9_000_000), registry.target("origin2"))
    copied = copy_image(built.target, registry.target("mounted", tag="other"))
    assert (copied.digest, copied.sent) == (built.digest, 0)


def test_a_copy_replaces_no_other_image_without_overwrite(registry: LocalRegistry) -> None:
    one = build_image(ImageTag(1, 1000), registry.target("copies"))
    two = build_image(ImageTag(1, 2000), registry.target("copies"))
    with pytest.raises(TagExistsError, match="already names another image"):
        copy_image(one.target, two.target)
    assert copy_image(one.target, two.target, overwrite=True).digest == one.digest


def test_layers_of_a_base_by_reference_come_first(
    registry: LocalRegistry, base: BuiltImage
) -> None:
    built = build_image(ImageTag(5, 300_001), registry.target("on-base"), base=str(base.target))
    assert built.layers[:2] == base.layers
    assert len(built.layers) == 5
    assert built.size == 300_001
    with Registry(registry.name) as client:
        found = verify_image(client, built.target)
    assert found.faults == ()
    assert sum(layer.content for layer in found.layers) == 300_001


def test_a_base_elsewhere_is_streamed_over(base: BuiltImage, tmp_path: Path) -> None:
    with run_registry(tmp_path / "elsewhere") as other:
        built = build_image(ImageTag(3, 5000), other.target(), base=str(base.target))
        with Registry(other.name) as client:
            assert verify_image(client, built.target).faults == ()


def test_a_base_that_leaves_no_layer_is_refused(registry: LocalRegistry, base: BuiltImage) -> None:
    with pytest.raises(PlanError, match="The base already has 2 layers"):
        build_image(ImageTag(2, 5000), registry.target("full"), base=str(base.target))


def test_a_base_that_is_not_there_is_named(registry: LocalRegistry) -> None:
    with pytest.raises(BaseError, match="no-such-base:x does not exist"):
        build_image(ImageTag(2, 5000), registry.target(), base=f"{registry.name}/no-such-base:x")


def test_what_is_no_image_is_replaced_with_overwrite(registry: LocalRegistry) -> None:
    target = registry.target("artifact", tag="x")
    with Registry(registry.name) as client:
        blob = upload_bytes(client, "artifact", b"not an image config")
        config = f'{{"mediaType": "text/plain", "digest": "{blob.digest}", "size": {blob.size}}}'
        kind = "application/vnd.oci.image.manifest.v1+json"
        raw = f'{{"schemaVersion": 2, "mediaType": "{kind}", "config": {config}, "layers": []}}'
        client.put_manifest(target, kind, raw.encode())
    with pytest.raises(BadImageError, match="is not a container image"):
        build_image(ImageTag(1, 1000), target)
    assert build_image(ImageTag(1, 1000), target, overwrite=True).digest
