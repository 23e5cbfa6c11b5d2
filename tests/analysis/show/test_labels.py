"""Numbers and images as people read them."""

import pytest

from analysis.ask.questions.cards import byte_size
from analysis.show.labels import seconds, short_name, short_names


@pytest.mark.parametrize(
    ("tag", "short"),
    [
        ("9-layers-size-1176249324-bytes", "1.18 GB, 9 layers"),
        ("1-layers-size-48702097-bytes", "48.7 MB, 1 layer"),
        ("9-layers-size-1176249324-bytes-r2", "1.18 GB, 9 layers r2"),
        ("latest", "latest"),
    ],
)
def test_short_names_of_tags(tag: str, short: str) -> None:
    assert short_name(tag) == short


def test_tags_of_one_short_name_keep_their_own() -> None:
    near = ("9-layers-size-1176249324-bytes", "9-layers-size-1176249325-bytes")
    assert short_names([*near, "latest"]) == {
        near[0]: near[0],
        near[1]: near[1],
        "latest": "latest",
    }
    assert short_names(near[:1] * 2) == {near[0]: "1.18 GB, 9 layers"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (7, "7 B"), (7_100, "7.1 kB"), (3_369_495, "3.37 MB"), (19_034_736_629, "19 GB")],
)
def test_bytes(value: float | None, text: str) -> None:
    assert byte_size(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (1.23456, "1.235"), (138.8775, "138.9")])
def test_durations(value: float | None, text: str) -> None:
    assert seconds(value) == text
