import json
from typing import Any

from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from pulumi.runtime.rpc import UNKNOWN

from rehearsal.pulumi.providers.properties import from_struct, has_unknown, merged, to_struct

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
