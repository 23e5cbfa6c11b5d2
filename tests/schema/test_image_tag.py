import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.image_tag import ImageTag, UnknownTagError, find_tag, parse_tag


@given(st.integers(1, 200), st.integers(0, 10**12), st.from_regex(r"[a-z0-9]{0,8}", fullmatch=True))
def test_what_is_written_is_read_back(layers: int, size: int, salt: str) -> None:
    tag = ImageTag(layers, size, salt)
    assert parse_tag(str(tag)) == tag


@pytest.mark.parametrize(
    "tag",
    [
        "latest",
        "0-layers-size-5-bytes",
        "9-layers-size-x-bytes",
        "",
        f"9-layers-size-{'9' * 19}-bytes",
        f"{'9' * 5000}-layers-size-5-bytes",
        "\u0669-layers-size-5-bytes",
    ],
    ids=["word", "no layer", "no size", "empty", "beyond 64 bits", "5,000 digits", "Arabic digit"],
)
def test_other_tags_claim_nothing(tag: str) -> None:
    assert find_tag(tag) is None
    with pytest.raises(UnknownTagError, match="does not state layers and size"):
        parse_tag(tag)
