from typing import Any

import pytest
from pulumi_gcp.container import NodePoolArgs
from pulumi_gcp.storage import BucketArgs

from rehearsal.pulumi.providers.gcp_node_pool import POOL_TABLE
from rehearsal.pulumi.providers.gcp_services import Bucket
from rehearsal.pulumi.providers.gcp_translate import Table, dig, from_rest, to_rest

Props = dict[str, Any]


@pytest.mark.parametrize(
    ("sdk", "rest"),
    [
        pytest.param({"version": "1.34"}, {"version": "1.34"}, id="same name"),
        pytest.param(
            {"nodeConfig": {"machineType": "n1-standard-16"}},
            {"config": {"machineType": "n1-standard-16"}}, id="renamed object",
        ),
        pytest.param(
            {"nodeConfig": {"advancedMachineFeatures": {"threadsPerCore": 1}}},
            {"config": {"advancedMachineFeatures": {"threadsPerCore": "1"}}}, id="int64",
        ),
        pytest.param(
            {"maxPodsPerNode": 32}, {"maxPodsConstraint": {"maxPodsPerNode": "32"}}, id="nested",
        ),
        pytest.param(
            {"nodeConfig": {"loggingVariant": "MAX_THROUGHPUT"}},
            {"config": {"loggingConfig": {"variantConfig": {"variant": "MAX_THROUGHPUT"}}}},
            id="nested deeply",
        ),
        pytest.param(
            {"nodeConfig": {"guestAccelerators": [{"type": "t4", "count": 2}]}},
            {"config": {"accelerators": [{"acceleratorType": "t4", "acceleratorCount": "2"}]}},
            id="renamed in a list",
        ),
        pytest.param(
            {"maintenancePolicies": [{"exclusionUntilEndOfSupports": [{"enabled": True}]}]},
            {"maintenancePolicy": {"exclusionUntilEndOfSupport": {"enabled": True}}},
            id="lists of one",
        ),
        pytest.param(
            {"nodeConfig": {"kubeletConfig": {"insecureKubeletReadonlyPortEnabled": "FALSE"}}},
            {"config": {"kubeletConfig": {"insecureKubeletReadonlyPortEnabled": False}}},
            id="bool in capitals",
        ),
        pytest.param(
            {"nodeConfig": {"labels": {"pull-study/measured": "true"}}},
            {"config": {"labels": {"pull-study/measured": "true"}}}, id="map",
        ),
    ],
)  # fmt: skip
def test_a_node_pool_is_the_same_both_ways(sdk: Props, rest: Props) -> None:
    assert to_rest(POOL_TABLE, sdk) == rest
    assert from_rest(POOL_TABLE, NodePoolArgs, rest) == sdk


def test_what_the_api_never_sees_stays_here() -> None:
    assert to_rest(POOL_TABLE, {"cluster": "c", "nodeCount": 4, "__defaults": ["name"]}) == {}


def test_what_the_sdk_does_not_know_is_left_out() -> None:
    assert from_rest(POOL_TABLE, NodePoolArgs, {"status": "RUNNING", "config": {"new": 1}}) == {
        "nodeConfig": {}
    }


def test_a_bucket_keeps_two_properties_in_one_object() -> None:
    sdk = {"publicAccessPrevention": "enforced", "uniformBucketLevelAccess": True}
    rest = {
        "iamConfiguration": {
            "publicAccessPrevention": "enforced",
            "uniformBucketLevelAccess": {"enabled": True},
        }
    }
    assert to_rest(Bucket.table, sdk) == rest
    assert from_rest(Bucket.table, BucketArgs, rest) == sdk


def test_a_table_moves_below_a_property() -> None:
    table = Table(rows={"a": "b"}, int64=["c"]).below("x")
    assert to_rest(table, {"x": {"a": 1, "c": 2}, "a": 3}) == {"x": {"b": 1, "c": "2"}, "a": 3}


def test_digging_where_nothing_is() -> None:
    assert dig({"a": {"b": 1}}, "a.b") == 1
    assert dig({"a": 1}, "a.b") is None
