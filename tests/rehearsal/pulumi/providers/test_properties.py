import json
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from pulumi.runtime.rpc import UNKNOWN

from rehearsal.pulumi.providers.properties import (
    Change,
    Effect,
    Rules,
    changes,
    from_struct,
    has_unknown,
    merged,
    refreshed,
    to_struct,
)

_VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-1e9, 1e9).filter(lambda number: not number.is_integer())
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), _VALUES, max_size=4))
def test_properties_survive_the_wire(props: dict[str, Any]) -> None:
    back = from_struct(to_struct(props))
    # As text, because in Python 1 == 1.0 == True.
    assert json.dumps(back, sort_keys=True) == json.dumps(props, sort_keys=True)


def test_nulls_are_dropped() -> None:
    struct = Struct()
    struct.update({"a": None, "b": {"c": None}})
    assert from_struct(struct) == {"b": {}}


def test_unknown_is_found_at_any_depth() -> None:
    assert has_unknown({"a": [{"b": UNKNOWN}]})
    assert not has_unknown({"a": [{"b": "known"}], "c": 1})


def test_objects_merge_and_lists_are_replaced() -> None:
    under = {"a": {"b": 1, "c": 2}, "d": [1, 2]}
    assert merged(under, {"a": {"c": 3}, "d": [4]}) == {"a": {"b": 1, "c": 3}, "d": [4]}


RULES = Rules(
    replace={"location", "node.threads", "taints.key"},
    computed={"version", "node.disk"},
    unordered={"scopes"},
    equal=lambda path, there, new: path == "network" and there.endswith(f"/{new}"),
)
Props = dict[str, Any]


def _changes(state: Props, old: Props, new: Props) -> list[str]:
    return [
        f"{change.effect} {change.path}{' [replace]' if change.replace else ''}"
        for change in changes(RULES, state, old, new)
    ]


@pytest.mark.parametrize(
    ("state", "old", "new", "expected"),
    [
        pytest.param({"a": 1}, {"a": 1}, {"a": 1}, [], id="same"),
        pytest.param({"a": 1}, {}, {"a": 1}, [], id="an explicit default"),
        pytest.param({"a": 1}, {"a": 1}, {"a": 2}, ["update a"], id="changed"),
        pytest.param({"a": 2}, {"a": 1}, {"a": 1}, ["update a"], id="drifted"),
        pytest.param({}, {}, {"a": 1}, ["add a"], id="added"),
        pytest.param({}, {}, {"a": {}}, [], id="an empty object added"),
        pytest.param({"a": 1}, {"a": 1}, {}, ["delete a"], id="removed"),
        pytest.param({"version": "1"}, {"version": "1"}, {}, [], id="computed again"),
        pytest.param({"b": 1}, {}, {}, [], id="never given"),
        pytest.param(
            {"location": "a"}, {}, {"location": "b"}, ["update location [replace]"], id="replace"
        ),
        pytest.param(
            {"node": {"threads": 1}}, {}, {"node": {"threads": 2}},
            ["update node.threads [replace]"], id="replace below",
        ),
        pytest.param(
            {"node": {"disk": 100}}, {"node": {"disk": 100}}, {"node": {}}, [], id="computed below"
        ),
        pytest.param(
            {"labels": {"a/b": "1"}}, {"labels": {"a/b": "1"}}, {"labels": {"a/b": "2"}},
            ['update labels["a/b"]'], id="key of a map",
        ),
        pytest.param(
            {"labels": {"a": "1", "x": "theirs"}}, {"labels": {"a": "1"}}, {"labels": {"a": "1"}},
            [], id="keys of others",
        ),
        pytest.param(
            {"taints": [{"key": "a"}]}, {}, {"taints": [{"key": "b"}]},
            ["update taints[0].key [replace]"], id="item of a list",
        ),
        pytest.param({"l": [1]}, {}, {"l": [1, 2]}, ["update l"], id="longer list"),
        pytest.param({"l": [1, 2]}, {}, {"l": [2, 1]}, ["update l[0]", "update l[1]"], id="order"),
        pytest.param({"scopes": [1, 2]}, {}, {"scopes": [2, 1]}, [], id="order of a set"),
        pytest.param({"a": 1}, {}, {"a": UNKNOWN}, ["update a"], id="unknown"),
        pytest.param({"l": [1]}, {}, {"l": [UNKNOWN]}, ["update l"], id="item unknown"),
        pytest.param(
            {"location": "a"}, {}, {"location": UNKNOWN}, ["update location [replace]"],
            id="replace if unknown",
        ),
        pytest.param({"network": "p/global/default"}, {}, {"network": "default"}, [], id="link"),
        pytest.param({"network": "p/x"}, {}, {"network": "y"}, ["update network"], id="other link"),
        pytest.param({}, {"__defaults": ["a"]}, {"__defaults": []}, [], id="bookkeeping"),
    ],
)  # fmt: skip
def test_changes(state: Props, old: Props, new: Props, expected: list[str]) -> None:
    assert _changes(state, old, new) == expected


@pytest.mark.parametrize(
    ("path", "top"), [("a", "a"), ("a.b", "a"), ("a[0].b", "a"), ('a["x.y"]', "a")]
)
def test_top_level_property_of_a_change(path: str, top: str) -> None:
    assert Change(path, Effect.UPDATE).top == top


@pytest.mark.parametrize(
    ("inputs", "live", "expected"),
    [
        pytest.param({"a": 1}, {"a": 2, "b": 3}, {"a": 2}, id="drift of what was given"),
        pytest.param({"a": 1}, {}, {}, id="deleted"),
        pytest.param({"a": False, "b": {"c": 0}}, {}, {"a": False, "b": {"c": 0}}, id="zero"),
        pytest.param({"a": {"b": False}}, {"a": {}}, {"a": {"b": False}}, id="zero below"),
        pytest.param(
            {"network": "default"}, {"network": "p/default"}, {"network": "default"}, id="link"
        ),
        pytest.param({"scopes": [2, 1]}, {"scopes": [1, 2]}, {"scopes": [2, 1]}, id="order"),
        pytest.param({"l": [{"a": 1}]}, {"l": [{"a": 2, "b": 1}]}, {"l": [{"a": 2}]}, id="list"),
        pytest.param({"l": [1]}, {"l": [1, 2]}, {"l": [1, 2]}, id="longer list"),
    ],
)
def test_refreshed_inputs(inputs: Props, live: Props, expected: Props) -> None:
    assert refreshed(RULES, inputs, live) == expected
