from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.events import name_time, parse_event

RECORDED = "container-pull-1-n9pxd.180686c198f8aa5c"


def test_a_recorded_name_gives_the_kubelets_clock() -> None:
    at = name_time(RECORDED)
    assert at is not None
    # The event's own firstTimestamp is 06:14:32 with one second of resolution.
    assert at.replace(microsecond=0) == datetime(2024, 11, 10, 6, 14, 32, tzinfo=UTC)


@given(st.datetimes(datetime(2002, 1, 1), datetime(2095, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_any_clock_comes_back_to_the_microsecond(at: datetime) -> None:
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    microseconds = since // timedelta(microseconds=1)
    assert name_time(f"pod.{microseconds * 1000:016x}") == at


@pytest.mark.parametrize("name", ["", "pod", "pod.zz", "pod.0000000000000001", "canary-0123abcd"])
def test_other_names_carry_no_clock(name: str) -> None:
    assert name_time(name) is None


def test_an_exporters_event_and_the_servers_read_alike() -> None:
    event = {
        "metadata": {"name": RECORDED, "uid": "u"},
        "reason": "Pulled",
        "involvedObject": {"kind": "Pod", "uid": "p", "labels": {"a": "b"}},
        "source": {"component": "kubelet", "host": "n"},
        "count": 1.0,
        "eventTime": None,
    }
    read = parse_event(event)
    assert (read.node, read.involved.uid, read.count) == ("n", "p", 1)


def test_a_microsecond_event_time_is_used_where_the_name_has_no_clock() -> None:
    event = {"metadata": {"name": "x"}, "eventTime": "2026-11-24T12:00:00.123456Z"}
    assert parse_event(event).at == datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
