from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehearsal.cloud_logging.entries import Entry
from rehearsal.cloud_logging.filter import FilterError, parse_filter


def entry(**fields: Any) -> Entry:
    data = {
        "logName": "projects/p/logs/stdout",
        "insertId": "0000000000000001",
        "timestamp": "2026-11-24T02:00:00.123456789Z",
        "receiveTimestamp": "2026-11-24T02:00:05Z",
        "severity": "INFO",
        "resource": {
            "type": "k8s_container",
            "labels": {"cluster_name": "size-4", "container_name": "event-exporter"},
        },
        "labels": {"k8s-pod/app": "exporter", "empty": ""},
        "jsonPayload": {
            "reason": "Pulled",
            "count": 3.0,
            "ok": True,
            "nothing": None,
            "metadata": {"name": "pod.17", "foo.bar": "dotted"},
            "sizes": [8.5, 9, 6],
            "owners": [{"kind": "Job"}, {"kind": "Node"}],
            "message": 'Successfully pulled image "ghcr.io/a/b:1"',
        },
    }
    return Entry({**data, **fields})


def matches(text: str, **fields: Any) -> bool:
    return parse_filter(text)(entry(**fields))


EXPORTER = """
  resource.type="k8s_container" AND log_id("stdout")  -- the exporter's own log
  resource.labels.cluster_name="size-4"
  resource.labels.container_name = "event-exporter"
"""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   -- nothing but a comment",
        EXPORTER,
        f'({EXPORTER}) AND timestamp>="2026-11-24T01:59:00+00:00"',
        f'({EXPORTER}) OR (log_id("events") AND resource.type=("k8s_pod" OR "k8s_node"))',
        'resource.type=("k8s_pod" OR "k8s_container")',
        'logName="projects/p/logs/stdout"',
        'labels."k8s-pod/app"="exporter"',
        'labels."k8s-pod/app"=exporter',
        'jsonPayload.metadata.name="pod.17"',
        'jsonPayload.metadata."foo.bar"=dotted',
        'jsonPayload.reason="PULLED"',
        "jsonPayload.reason:pull",
        'jsonPayload.message:("image" AND "GHCR.IO")',
        'jsonPayload.message:("image" AND NOT "quay.io")',
        r'jsonPayload.message="Successfully pulled image \"ghcr.io/a/b:1\""',
        r'jsonPayload.message=~"pulled image \"[a-z.]+/"',
        'jsonPayload.reason!~"^pulled$"',
        "jsonPayload.count=3",
        'jsonPayload.count="3.0"',
        "jsonPayload.count>=2.5 jsonPayload.count<4 jsonPayload.count!=4",
        "jsonPayload.count>-1e3",
        "jsonPayload.ok=TRUE",
        "jsonPayload.ok!=false",
        "jsonPayload.nothing=NULL_VALUE",
        "jsonPayload.nothing:*",
        "jsonPayload.sizes<7",
        'jsonPayload.owners.kind="Node"',
        'jsonPayload:"dotted"',
        "severity=info",
        "severity>=INFO severity<error severity!=DEBUG",
        "severity>100",
        'timestamp="2026-11-24T02:00:00.123456789Z"',
        'timestamp>"2026-11-24T02:00:00.123456788Z"',
        'timestamp<"2026-11-24T03:00:00.2+01:00"',
        "timestamp>=2026-11-24 timestamp<2026-11-25",
        'receiveTimestamp>="2026-11-24T02:00:05Z"',
        '"successfully PULLED"',
        "exporter pulled",
        "-quay NOT docker",
        "pulled (exporter OR quay)",
        "resource.type=k8s_container (severity>=ERROR OR severity=INFO)",
        "NOT jsonPayload.none=1",
        "NOT labels.none:*",
        'textPayload=""',
        'textPayload!="x"',
        'NOT severity=("ERROR" OR "CRITICAL")',
        'log_id("stdout")',
        'LOG_ID("STDOUT")',
    ],
)
def test_entry_matches(text: str) -> None:
    assert matches(text)


@pytest.mark.parametrize(
    "text",
    [
        'resource.type="k8s_pod"',
        'resource.labels.cluster_name="size-40"',
        "jsonPayload.none=1",
        "jsonPayload.none!=1",
        'labels.none!~"x"',
        "jsonPayload.none:*",
        "textPayload:*",
        "jsonPayload.count=three",
        "jsonPayload.count=3.5",
        "jsonPayload.ok=1",
        'jsonPayload.nothing="NULL_VALUE"',
        'jsonPayload.reason=~"pulled"',
        "jsonPayload.sizes>10",
        "jsonPayload.reason.deeper=x",
        'timestamp<"2026-11-24T02:00:00.123456789Z"',
        "severity>INFO",
        '"quay"',
        "pulled quay",
        "and or not quay",
        'log_id("stderr")',
        'NOT log_id("stdout")',
    ],
)
def test_entry_does_not_match(text: str) -> None:
    assert not matches(text)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("(", 1),
        ("resource.type=", 14),
        ('resource.type="a', 14),
        ("resource.type", 13),
        ("resource.type=a)", 15),
        ("resource.typ=a", 0),
        ("  httpRequest.status=500", 2),
        ("textPayload.x=1", 0),
        ("thud=1", 0),
        ("AND jsonPayload.a=1", 0),
        ("jsonPayload.a=1 OR", 18),
        ("jsonPayload.a=1 AND AND jsonPayload.b=2", 20),
        ("jsonPayload.a==1", 14),
        ("insertId=abc:def", 12),
        ("jsonPayload.a=b.c", 15),
        ("jsonPayload.a='b'", 14),
        ('jsonPayload.a=("x" OR)', 21),
        ('SEARCH("x")', 0),
        ('jsonPayload.a=~"("', 15),
        ('jsonPayload.a=~"(?=x)"', 15),
        ("severity>=LOUD", 10),
        ('timestamp>"yesterday"', 10),
        ("timestamp:2026", 10),
        ("receiveTimestamp>timestamp", 17),
        ("jsonPayload.a=1,", 15),
        ("log_id(stdout", 13),
        ("jsonPayload.a=cast(b)", 18),
    ],
)
def test_what_is_not_understood_is_refused_with_its_position(text: str, position: int) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert caught.value.position == position
    assert f"at position {position}" in str(caught.value)


def test_long_filter_is_refused() -> None:
    parse_filter("a" * 20_000)
    with pytest.raises(FilterError):
        parse_filter("a" * 20_001)


def test_or_binds_tighter_than_and() -> None:
    # Google's example: "a" OR NOT "b" AND NOT "c" OR "d" is ("a" OR NOT "b") AND (NOT "c" OR "d").
    text = "jsonPayload.a=1 OR NOT jsonPayload.b=1 AND NOT jsonPayload.c=1 OR jsonPayload.d=1"
    for bits in range(16):
        a, b, c, d = (bool(bits >> shift & 1) for shift in range(4))
        payload = {"a": int(a), "b": int(b), "c": int(c), "d": int(d)}
        assert matches(text, jsonPayload=payload) == ((a or not b) and (not c or d))


# A filter as a tree: (field, value), ("not", tree), ("or" or "and", trees).
_leaves = st.tuples(st.sampled_from("abc"), st.sampled_from(["0", "1", '"0"']))
_trees = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["or", "and"]), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)
_BINDING = {"and": 0, "or": 1, "not": 2}


def render(tree: Any, draw: Any, around: int = 0) -> str:
    """The tree as a filter, in one of the ways to write it, with the least parentheses."""
    kind, inner = tree
    if kind not in _BINDING:
        return f"jsonPayload.{kind} = {inner}"
    binding = _BINDING[kind]
    if kind == "not":
        text = draw(st.sampled_from(["NOT ", "-"])) + render(inner, draw, 3)
    else:
        glue = {"or": [" OR "], "and": [" AND ", " ", "\n", " -- why\n"]}[kind]
        text = render(inner[0], draw, binding + 1)
        for part in inner[1:]:
            text += draw(st.sampled_from(glue)) + render(part, draw, binding + 1)
    return f"({text})" if around > binding else text


def holds(tree: Any, payload: dict[str, int]) -> bool:
    """What the tree means, without the parser."""
    kind, inner = tree
    if kind == "not":
        return not holds(inner, payload)
    if kind in _BINDING:
        return {"or": any, "and": all}[kind](holds(part, payload) for part in inner)
    return kind in payload and payload[kind] == int(inner.strip('"'))


@settings(deadline=None)
@given(_trees, st.dictionaries(st.sampled_from("abc"), st.integers(0, 1)), st.data())
def test_filter_means_what_its_tree_means(
    tree: Any, payload: dict[str, int], data: st.DataObject
) -> None:
    text = render(tree, data.draw)
    assert matches(text, jsonPayload=payload) == holds(tree, payload), text


@settings(deadline=None)
@given(st.text(max_size=60) | st.text(alphabet='ab01."()=:<>!~-, \nANDORNOT', max_size=60))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    position = 0
    try:
        result = parse_filter(text)(entry())
    except FilterError as error:
        position, result = error.position, False
    assert 0 <= position <= len(text)
    assert result in {True, False}


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_string_can_be_quoted(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert matches(f'jsonPayload.a="{quoted}"', jsonPayload={"a": value})
    assert matches(f'jsonPayload."{quoted}":*', jsonPayload={value: 1})
