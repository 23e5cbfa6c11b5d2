from typing import Any

import pytest
from pulumi.runtime.rpc import UNKNOWN

from rehearsal.pulumi.providers.differences import Change, Effect, Rules, changes, refreshed

RULES = Rules(
    replace={"location", "node.threads", "taints.key"},
    computed={"version", "node.disk"},
    unordered={"scopes"},
    links={"network"},
    sizes={"range"},
    ignore_case={"region"},
    equal=lambda path, one, other: path == "cpu" and (one, other) == ("500m", "0.5"),
)
Props = dict[str, Any]


def _changes(state: Props, old: Props, new: Props) -> list[str]:
    return [
        f"{change.effect} {change.path}{' anew' if change.replace else ''}"
        for change in changes(RULES, state, old, new)
    ]


@pytest.mark.parametrize(
    ("state", "old", "new", "expected"),
    [
        pytest.param({"a": 1}, {"a": 1}, {"a": 1}, [], id="same"),
        pytest.param({"a": 1}, {}, {"a": 1}, [], id="a default said aloud"),
        pytest.param({"a": 1}, {"a": 1}, {"a": 2}, ["update a"], id="changed"),
        pytest.param({"a": 2}, {"a": 1}, {"a": 1}, ["update a"], id="drifted"),
        pytest.param({}, {}, {"a": 1}, ["add a"], id="added"),
        pytest.param({}, {}, {"a": {}}, [], id="an empty object added"),
        pytest.param({"a": 1}, {"a": 1}, {}, ["delete a"], id="removed"),
        pytest.param({"version": "1"}, {"version": "1"}, {}, [], id="computed again"),
        pytest.param({"b": 1}, {}, {}, [], id="never given"),
        pytest.param({"location": "a"}, {}, {"location": "b"}, ["update location anew"], id="anew"),
        pytest.param(
            {"node": {"threads": 1}}, {}, {"node": {"threads": 2}}, ["update node.threads anew"],
            id="anew below",
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
            ["update taints[0].key anew"], id="item of a list",
        ),
        pytest.param({"l": [1]}, {}, {"l": [1, 2]}, ["update l"], id="longer list"),
        pytest.param({"l": [1, 2]}, {}, {"l": [2, 1]}, ["update l[0]", "update l[1]"], id="order"),
        pytest.param({"scopes": [1, 2]}, {}, {"scopes": [2, 1]}, [], id="order that means nothing"),
        pytest.param({"a": 1}, {}, {"a": UNKNOWN}, ["update a"], id="not known yet"),
        pytest.param({"l": [1]}, {}, {"l": [UNKNOWN]}, ["update l"], id="item not known yet"),
        pytest.param(
            {"location": "a"}, {}, {"location": UNKNOWN}, ["update location anew"],
            id="anew if not known yet",
        ),
        pytest.param({"network": "p/global/default"}, {}, {"network": "default"}, [], id="link"),
        pytest.param({"network": "p/x"}, {}, {"network": "y"}, ["update network"], id="other link"),
        pytest.param({"range": "10.0.0.0/14"}, {}, {"range": "/14"}, [], id="size"),
        pytest.param({"range": "10.0.0.0/14"}, {}, {"range": "/16"}, ["update range"], id="other"),
        pytest.param({"region": "US"}, {}, {"region": "us"}, [], id="case"),
        pytest.param({"cpu": "500m"}, {}, {"cpu": "0.5"}, [], id="equal"),
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
        pytest.param({"a": 1}, {}, {}, id="gone"),
        pytest.param({"a": False, "b": {"c": 0}}, {}, {"a": False, "b": {"c": 0}}, id="zero"),
        pytest.param({"a": {"b": False}}, {"a": {}}, {"a": {"b": False}}, id="zero below"),
        pytest.param(
            {"network": "default"}, {"network": "p/default"}, {"network": "default"}, id="l"
        ),
        pytest.param({"scopes": [2, 1]}, {"scopes": [1, 2]}, {"scopes": [2, 1]}, id="order"),
        pytest.param({"l": [{"a": 1}]}, {"l": [{"a": 2, "b": 1}]}, {"l": [{"a": 2}]}, id="list"),
        pytest.param({"l": [1]}, {"l": [1, 2]}, {"l": [1, 2]}, id="longer list"),
    ],
)
def test_refreshed_inputs(inputs: Props, live: Props, expected: Props) -> None:
    assert refreshed(RULES, inputs, live) == expected
