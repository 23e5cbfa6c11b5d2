"""Kubelet messages, in every form that recorded clusters printed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.read.pull_message import (
    PullMessage,
    parse_duration,
    parse_failed,
    parse_pulled,
    parse_pulling,
)

IMAGE = "ghcr.io/converged-computing/container-chonks-run1:9-layers-size-48702097-bytes"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h2m3s", 3723.0),
        ("1h0m3.5s", 3603.5),
        ("1m16.9s", 76.9),
        ("2m29s", 149.0),
        ("1m16.896098434s", 76.896098434),
        ("437ms", 0.437),
        ("748.39ms", 0.74839),
        ("748.412356ms", 0.748412356),
        ("850us", 0.00085),
        ("850µs", 0.00085),
        ("850μs", 0.00085),
        ("1.5µs", 0.0000015),
        ("42ns", 4.2e-8),
        ("0s", 0.0),
        ("0", 0.0),
        ("-1m0.5s", -60.5),
        ("2562047h47m16.854775807s", 9223372036.854775807),
    ],
)
def test_duration_in_every_form_that_go_prints(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "1", "1.5", "1 s", "1x", "1m 2s", "--1s", "1s2", "NaNs"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def go_duration(nanoseconds: int) -> str:
    """Go's time.Duration.String for values of at least a second (time/time.go)."""
    seconds, rest = divmod(nanoseconds, 10**9)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    text = f"{seconds}{fraction}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


@given(st.integers(min_value=10**9, max_value=10**14))
def test_duration_is_read_to_the_nanosecond(nanoseconds: int) -> None:
    assert math.isclose(parse_duration(go_duration(nanoseconds)), nanoseconds / 1e9, rel_tol=1e-15)


@given(st.text(max_size=40))
def test_any_text_is_no_pull_and_no_crash(text: str) -> None:
    assert parse_pulled(text) is None


@given(st.text(alphabet="0123456789hmsnuµ.-", max_size=12))
def test_any_text_of_a_durations_letters_is_read_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert math.isfinite(seconds)


def test_pulled_on_gke_with_size() -> None:
    message = (
        f'Successfully pulled image "{IMAGE}" in 1m16.9s (1m17.1s including waiting). '
        "Image size: 2273542 bytes."
    )
    assert parse_pulled(message) == PullMessage(IMAGE, 76.9, 77.1, 2273542, cached=False)


def test_pulled_behind_other_pulls() -> None:
    message = f'Successfully pulled image "{IMAGE}" in 437ms (42.088s including waiting)'
    assert parse_pulled(message) == PullMessage(IMAGE, 0.437, 42.088, None, cached=False)


@pytest.mark.parametrize("ending", ["", ". Image size: 7 bytes."])
def test_the_one_duration_of_an_old_kubelet_includes_the_wait(ending: str) -> None:
    message = f'Successfully pulled image "{IMAGE}" in 2.5s{ending}'
    size = 7 if ending else None
    assert parse_pulled(message) == PullMessage(IMAGE, None, 2.5, size, cached=False)


@pytest.mark.parametrize(
    "message",
    [
        f'Successfully pulled image "{IMAGE}"',
        f'successfully pulled image "{IMAGE}" in soon',
        f'Successfully pulled image "{IMAGE}" in {"9" * 400}h',
        f'Successfully pulled image "{IMAGE}" in -2s (-1s including waiting)',
        f'Successfully pulled image "{IMAGE}" in 1s. Image size: {"9" * 400} bytes',
    ],
)
def test_a_pull_whose_duration_or_size_is_unknown(message: str) -> None:
    pulled = parse_pulled(message)
    assert pulled is not None
    assert (pulled.image, pulled.pull_s, pulled.image_bytes) == (IMAGE, None, None)


@pytest.mark.parametrize("ending", ["", " and can be accessed by the pod"])
def test_cached(ending: str) -> None:
    message = f'Container image "{IMAGE}" already present on machine{ending}'
    assert parse_pulled(message) == PullMessage(IMAGE, None, None, None, cached=True)


def test_combined_event_is_read_like_any_other() -> None:
    message = f'(combined from similar events): Successfully pulled image "{IMAGE}" in 1s'
    assert parse_pulled(message) == PullMessage(IMAGE, None, 1.0, None, cached=False)


def test_pulling_and_failed_name_their_image() -> None:
    assert parse_pulling(f'Pulling image "{IMAGE}"') == IMAGE
    assert parse_pulling(f'pulling image "{IMAGE}"') == IMAGE  # kubelets before 1.14
    assert parse_pulling("Started container pull") is None
    assert parse_failed(f'Failed to pull image "{IMAGE}": no space left on device') == IMAGE
    assert parse_failed(f'Back-off pulling image "{IMAGE}"') == IMAGE
    assert parse_failed("Error: ErrImagePull") is None


@pytest.mark.parametrize(
    "message",
    ["", "Pulled", "Successfully pulled image x", "Pulled chart in 2s"],
)
def test_other_messages_are_no_pull(message: str) -> None:
    assert parse_pulled(message) is None
