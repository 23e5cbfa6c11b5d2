import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.errors import PlanError
from images.make.plan import MAX_LAYERS, Compression, ImagePlan, plan_image, share
from schema.image_tag import ImageTag, parse_tag


def seeds(plan: ImagePlan) -> set[tuple[str, int]]:
    return {(layer.seed, layer.first_file) for layer in plan.layers}


@given(st.integers(1, MAX_LAYERS), st.integers(2 * MAX_LAYERS, 10**11), st.integers(1, 5))
def test_layers_and_size_are_exact(layers: int, size: int, files: int) -> None:
    plan = plan_image(ImageTag(layers, size * files, f"files{files}"))
    assert len(plan.layers) == layers
    assert plan.size == size * files
    assert max(x.size for x in plan.layers) - min(x.size for x in plan.layers) <= 1
    numbers = [
        layer.first_file + n for layer in plan.layers for n in range(len(layer.file_sizes()))
    ]
    assert numbers == list(range(layers * files))


@given(st.integers(0, 10**12), st.integers(1, 10**4))
def test_shares_sum_to_the_total(total: int, parts: int) -> None:
    shares = share(total, parts)
    assert (sum(shares), len(shares)) == (total, parts)
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(
    ("tag", "options", "reason"),
    [
        (ImageTag(128, 10**6), {}, "128 layers are more than the 127"),
        (ImageTag(2, 1), {}, "1 bytes are too few for 2 files in 2 layers"),
        (ImageTag(1, 0), {}, "0 bytes are too few"),
        (ImageTag(127, 300, "files3"), {}, "each file needs 2 to differ"),
        (ImageTag(2, 1000), {"scale": 0.0}, "not above 0"),
        (ImageTag(2, 1000), {"scale": float("nan")}, "not above 0"),
        (ImageTag(2, 1000), {"compressibility": 1.5}, "not between 0 and 1"),
        (ImageTag(2, 1000, "gzip13"), {}, "gzip has no level 13, only 1 to 12"),
        (ImageTag(2, 1000, "v2x3"), {}, "3 layers cannot change, since"),
        (ImageTag(2, 1000, "zstd99"), {}, "zstd has no level 99"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_reason(
    tag: ImageTag, options: dict[str, float], reason: str
) -> None:
    with pytest.raises(PlanError, match=reason) as refused:
        plan_image(tag, **options)  # type: ignore[arg-type]
    assert refused.value.fix


def test_an_upgrade_shares_all_but_the_last_layers() -> None:
    first = plan_image(parse_tag("9-layers-size-9000-bytes-v1"))
    second = plan_image(parse_tag("9-layers-size-9000-bytes-v2x2"))
    assert first.layers[:7] == second.layers[:7]
    assert not seeds(first) & {(x.seed, x.first_file) for x in second.layers[7:]}


def test_files_differ_in_number_and_not_in_bytes() -> None:
    few = plan_image(parse_tag("3-layers-size-9000-bytes"))
    many = plan_image(parse_tag("3-layers-size-9000-bytes-files100"))
    assert (few.size, many.size) == (9000, 9000)
    assert [layer.files for layer in many.layers] == [100, 100, 100]
    assert not seeds(few) & seeds(many)


def test_compressions_hold_the_same_bytes() -> None:
    plans = [
        plan_image(parse_tag(f"3-layers-size-9000-bytes{salt}"))
        for salt in ("", "-gzip1", "-gzip9", "-zstd3", "-zstd19", "-none")
    ]
    assert len({plan.layers for plan in plans}) == 1
    assert [(plan.compression, plan.level) for plan in plans] == [
        (Compression.GZIP, 6),
        (Compression.GZIP, 1),
        (Compression.GZIP, 9),
        (Compression.ZSTD, 3),
        (Compression.ZSTD, 19),
        (Compression.NONE, 0),
    ]


def test_a_variant_with_a_salt_has_bytes_of_its_own() -> None:
    one = plan_image(parse_tag("3-layers-size-9000-bytes-gzip1sa"))
    two = plan_image(parse_tag("3-layers-size-9000-bytes-zstd3sb"))
    assert (one.level, two.compression) == (1, Compression.ZSTD)
    assert not seeds(one) & seeds(two)


@pytest.mark.parametrize("salt", ["b", "v3", "files", "gzip", "nones", "r2", "2"])
def test_any_other_salt_only_salts(salt: str) -> None:
    plan = plan_image(ImageTag(3, 9000, salt))
    plain = plan_image(ImageTag(3, 9000))
    assert not seeds(plan) & seeds(plain)
    assert [x.size for x in plan.layers] == [x.size for x in plain.layers]
    assert (plan.compression, plan.level) == (plain.compression, plain.level)
