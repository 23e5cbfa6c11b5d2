from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.components.log_sink import event_filter
from rehearsal.cloud_logging.entries import Entry
from rehearsal.cloud_logging.query import FilterError, parse_filter

SENT = event_filter(
    project="p",
    location="us-central1-a",
    cluster="size-4",
    namespace="monitoring",
    container="event-exporter",
)
"""What the log sink of `infra` sends, and the runner with further conditions."""
LABELS = {
    "project_id": "p",
    "location": "us-central1-a",
    "cluster_name": "size-4",
    "namespace_name": "monitoring",
    "container_name": "event-exporter",
}


def entry(log: str = "stdout", kind: str = "k8s_container", **fields: Any) -> Entry:
    data = {
        "logName": f"projects/p/logs/{log}",
        "insertId": "0000000000000001",
        "timestamp": "2026-11-24T02:00:00.123456789Z",
        "receiveTimestamp": "2026-11-24T02:00:05Z",
        "resource": {"type": kind, "labels": LABELS},
        "jsonPayload": {"reason": "Pulled", "count": 3.0, "metadata": {"name": "pod.17"}},
    }
    return Entry({**data, **fields})


def test_the_exporters_lines_and_the_native_events_of_the_cluster_match() -> None:
    matches = parse_filter(SENT)
    assert matches(entry())
    assert matches(entry("events", "k8s_pod"))
    assert matches(entry("events", "k8s_node"))
    assert not matches(entry("stderr"))
    assert not matches(entry("stdout", "k8s_pod"))
    assert not matches(entry("events", "k8s_container"))
    for label in LABELS:
        other = {"type": "k8s_container", "labels": {**LABELS, label: "other"}}
        assert not matches(entry(resource=other))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        f'({SENT}) AND timestamp>="2026-11-24T03:00:00.123456+01:00"',
        f'({SENT}) AND timestamp>="2026-11-24T02:00:00.123456789Z"',
        f'({SENT}) AND receiveTimestamp>="2026-11-24T02:00:05Z"',
        'jsonPayload.metadata.name="pod.17"',
        'jsonPayload.reason="PULLED"',
        'resource.type = ("k8s_pod" OR "k8s_container")',
        'log_id("STDOUT")',
    ],
)
def test_entry_matches(text: str) -> None:
    assert parse_filter(text)(entry())


@pytest.mark.parametrize(
    "text",
    [
        f'({SENT}) AND timestamp>="2026-11-24T02:00:00.123456790Z"',
        f'({SENT}) AND receiveTimestamp>="2026-11-24T02:00:06Z"',
        'jsonPayload.metadata.name="pod.18"',
        'jsonPayload.none="x"',
        'jsonPayload.reason.deeper="x"',
        'jsonPayload.count="3"',
        'resource.type="k8s_pod"',
        'resource.type=("k8s_pod" OR "k8s_node")',
        'log_id("stderr")',
    ],
)
def test_entry_does_not_match(text: str) -> None:
    assert not parse_filter(text)(entry())


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("(", 1),
        ("resource.type=", 14),
        ('resource.type="a', 14),
        ("resource.type", 13),
        ("resource.type=a", 14),
        ('resource.type="a")', 17),
        ('resource.typ="a"', 0),
        ('  httpRequest.status="500"', 2),
        ('AND jsonPayload.a="1"', 0),
        ('jsonPayload.a="1" OR', 20),
        ('jsonPayload.a="1" AND AND jsonPayload.b="2"', 22),
        ('jsonPayload.a="1" jsonPayload.b="2"', 18),
        ('NOT jsonPayload.a="1"', 0),
        ('jsonPayload.a>="1"', 13),
        ('jsonPayload.a!="1"', 13),
        ('jsonPayload.a=~"1"', 14),
        ('jsonPayload.a:"1"', 13),
        ('jsonPayload.a=("x" OR)', 21),
        ('SEARCH("x")', 0),
        ('severity="ERROR"', 0),
        ('timestamp="2026-11-24T02:00:00Z"', 9),
        ('timestamp>="yesterday"', 11),
        ("log_id(stdout)", 7),
        ('"pulled"', 0),
        ('jsonPayload.a="1" -- why', 18),
    ],
)
def test_what_is_not_known_is_refused_with_its_position(text: str, position: int) -> None:
    with pytest.raises(FilterError, match=f"at position {position}$"):
        parse_filter(text)


def test_or_binds_tighter_than_and() -> None:
    text = (
        'jsonPayload.a="1" OR jsonPayload.b="1" AND '
        'jsonPayload.c="1" OR (jsonPayload.d="1" AND jsonPayload.a="1")'
    )
    for bits in range(16):
        a, b, c, d = (bool(bits >> shift & 1) for shift in range(4))
        payload = {name: str(int(value)) for name, value in zip("abcd", (a, b, c, d), strict=True)}
        expected = (a or b) and (c or (d and a))
        assert parse_filter(text)(entry(jsonPayload=payload)) == expected


@settings(deadline=None)
@given(st.text(max_size=60) | st.text(alphabet='ab01."()=>-, \nANDORNOT', max_size=60))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    position = 0
    try:
        parse_filter(text)(entry())
    except FilterError as error:
        position = error.position
    assert 0 <= position <= len(text)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_string_can_be_quoted(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_filter(f'jsonPayload.a="{quoted}"')(entry(jsonPayload={"a": value}))
