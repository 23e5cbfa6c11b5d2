from __future__ import annotations

from typing import Any

from experiment.preview.difference import Change, changes
from experiment.preview.previews import judged
from infra.policy import CLUSTER, NODE_POOL, Limits

JOB = "gcp:cloudscheduler/job:Job"


def resource(type_: str, name: str, /, **inputs: Any) -> dict[str, Any]:
    return {"type": type_, "name": name, "inputs": inputs}


def test_added_changed_and_removed_resources_are_listed_with_their_paths() -> None:
    before = [
        resource(NODE_POOL, "measured", nodeConfig={"machineType": "a", "diskSizeGb": 100}),
        resource(JOB, "old"),
        resource("t", "same", x=[{"y": 1}]),
    ]
    after = [
        resource(NODE_POOL, "measured", nodeConfig={"machineType": "b"}, nodeCount=4),
        resource("t", "new"),
        resource("t", "same", x=[{"y": 1}]),
    ]
    paths = ("nodeConfig.diskSizeGb", "nodeConfig.machineType", "nodeCount")
    assert list(changes(before, after)) == [
        Change("delete", JOB, "old"),
        Change("update", NODE_POOL, "measured", paths),
        Change("create", "t", "new"),
    ]


def test_elements_of_lists_are_compared_one_by_one() -> None:
    old, new = resource("t", "n", x=[{"y": 1}, 2]), resource("t", "n", x=[{"y": 3}, 2])
    longer = resource("t", "n", x=[{"y": 1}, 2, 3])
    assert list(changes([old], [new])) == [Change("update", "t", "n", ("x[0].y",))]
    assert list(changes([old], [longer])) == [Change("update", "t", "n", ("x",))]


def test_the_time_of_a_preview_is_not_a_change() -> None:
    def planned(at: str) -> list[dict[str, Any]]:
        labels = {"expires": at, "stack": "size-4"}
        return [
            resource(JOB, "deadline", schedule=at),
            resource(CLUSTER, "cluster", resourceLabels=labels),
            resource("gcp:storage/bucket:Bucket", "archive", name=f"archive-{at}"),
            resource("gcp:logging/projectSink:ProjectSink", "sink", destination=f"x/archive-{at}"),
        ]

    assert list(changes(planned("1"), planned("2"))) == []


def answer(*resources: dict[str, Any], problem: str = "") -> dict[str, Any]:
    exports = {"usd_per_hour": 3.34, "machine_type": "m"}
    return {"problem": problem, "warnings": [], "exports": exports, "resources": list(resources)}


def test_changes_that_may_replace_running_nodes_are_warned_about() -> None:
    limits = Limits(usd_per_hour=10, nodes=10)
    scopes = {"oauthScopes": ["x"]}
    pool, larger = (
        resource(NODE_POOL, "measured", nodeCount=count, nodeConfig=scopes) for count in (4, 8)
    )
    cluster, moved = (
        resource(CLUSTER, "cluster", location=zone, deletionProtection=False) for zone in "ab"
    )
    same = judged("s", answer(cluster, pool), answer(cluster, pool), limits)
    assert (same.changes, same.unchanged, same.warnings, same.broken) == ((), 2, (), ())
    (warning,) = judged("s", answer(cluster, larger), answer(cluster, pool), limits).warnings
    assert "may replace running nodes" in warning
    (warning,) = judged("s", answer(moved, larger), answer(cluster, pool), limits).warnings
    assert "pulumi preview shows it" in warning
    assert judged("s", answer(moved, larger), None, limits).warnings == ()
