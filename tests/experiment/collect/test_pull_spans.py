"""How a pull's spans become seconds: no moment counts twice, and none is missing."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment.collect.pull_spans import PullSpans, SpanIndex, span_columns, span_doubts, spans_of
from schema.run_records import SpanKind, SpanRecord

S = 10**9
T0 = 1_700_000_000


def span(kind: SpanKind, begin: float, end: float, layer: str = "") -> SpanRecord:
    return SpanRecord(
        node="node-1",
        trace="t",
        kind=kind,
        begin_ns=int((T0 + begin) * S),
        end_ns=int((T0 + end) * S),
        layer=layer,
    )


def pull(begin: float, end: float) -> SpanRecord:
    return span(SpanKind.PULL, begin, end)


def seconds(found: PullSpans) -> tuple[float, float, float]:
    return tuple(round(each, 6) for each in (found.fetch_s, found.unpack_s, found.overlap_s))  # type: ignore[return-value]


def test_one_layer_is_fetched_and_then_unpacked() -> None:
    parts = [
        span(SpanKind.FETCH, 0.1, 0.4),  # the manifest
        span(SpanKind.FETCH, 0.5, 2.0, "a"),
        span(SpanKind.UNPACK, 0.5, 5.0, "a"),  # open since before the layer was there
    ]
    assert seconds(spans_of(pull(0, 5.1), parts)) == (2.1, 3.0, 0.0)


def test_what_is_fetched_during_unpacking_counts_as_unpacking_and_is_told() -> None:
    parts = [
        span(SpanKind.FETCH, 0, 1, "a"),
        span(SpanKind.FETCH, 0, 3, "b"),
        span(SpanKind.UNPACK, 0, 2, "a"),
        span(SpanKind.UNPACK, 2, 4, "b"),  # waits a second for its layer
    ]
    found = spans_of(pull(0, 4), parts)
    assert seconds(found) == (2.0, 2.0, 1.0)
    assert found.sum_s == 4


def test_layers_that_are_unpacked_at_once_count_once() -> None:
    parts = [
        *(span(SpanKind.FETCH, 0, 1, layer) for layer in "abc"),
        *(
            span(SpanKind.UNPACK, 0, end, layer)
            for layer, end in zip("abc", (3, 4, 5), strict=True)
        ),
    ]
    assert seconds(spans_of(pull(0, 5), parts)) == (1.0, 4.0, 0.0)


@given(
    parts=st.lists(
        st.builds(
            lambda kind, begin, length, layer: span(kind, begin, begin + length, layer),
            st.sampled_from([SpanKind.FETCH, SpanKind.UNPACK]),
            st.floats(-5, 15),
            st.floats(0, 10),
            st.sampled_from("abc"),
        )
    )
)
def test_the_sum_is_the_call_and_no_part_is_negative(
    parts: list[SpanRecord],
) -> None:
    found = spans_of(pull(0, 10), parts)
    assert found.sum_s == pytest.approx(10)
    assert 0 <= found.overlap_s <= found.unpack_s
    assert found.fetch_s >= 0


@pytest.mark.parametrize(
    ("pull_s", "contradicts"),
    [(4.0, False), (4.15, False), (4.3, True), (3.7, True), (None, False)],
)
def test_a_sum_that_differs_from_the_kubelets_duration_is_a_mark(
    pull_s: float | None, contradicts: bool
) -> None:
    doubts = list(span_doubts(PullSpans(1.0, 3.0, 0.5, 9), 9, pull_s))
    assert bool(doubts) is contradicts
    if doubts:
        assert doubts[0].startswith("by containerd's spans the pull took 4.00 s, and")


def test_a_pull_whose_layers_do_not_all_have_spans_has_a_mark_and_no_columns() -> None:
    found = PullSpans(1.0, 3.0, 0.5, 8)
    assert span_columns(found, 9) == {}
    assert list(span_doubts(found, 9, 4.0)) == [
        "containerd's spans show the unpacking of 8 of 9 layers"
    ]
    assert span_columns(found, 8) == {"fetch_s": 1.0, "unpack_s": 3.0, "overlap_s": 0.5}


def test_a_pull_is_found_by_the_times_of_its_events_and_never_that_of_another_trial() -> None:
    def at(seconds: float) -> datetime:
        return datetime.fromtimestamp(T0 + seconds, UTC)

    calls = [
        part.model_copy(update={"image": image, "trace": trace})
        for begin, trace, image in ((1, "t1", "r@sha256:1"), (11, "t2", "r@sha256:1"))
        for part in (pull(begin, begin + begin), span(SpanKind.UNPACK, begin, begin + 1, "a"))
    ]
    index = SpanIndex(calls)
    found = index.find("node-1", "r:tag@sha256:1", at(1.01), at(2.1))
    assert found is not None
    assert seconds(found) == (0.0, 1.0, 0.0)
    assert index.find("node-2", "r:tag@sha256:1", at(1.01), at(2.1)) is None
    assert index.find("node-1", "r:tag@sha256:2", at(1.01), at(2.1)) is None
    assert index.find("node-1", "r:tag@sha256:1", at(5), at(6)) is None
    assert index.find("node-1", "r:tag@sha256:1", None, at(6)) is None
    assert SpanIndex(calls[::2]).find("node-1", "r@sha256:1", at(1), at(2)) is None, "not unpacked"
