from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rehearsal.cluster.exporter import (
    exporter_container,
    map_path,
    program_arguments,
    variables,
)


def pod(**changes: Any) -> dict[str, Any]:
    container = {"name": "exporter", "image": "ghcr.io/resmoio/kubernetes-event-exporter:v1.6.1"}
    return {
        "metadata": {"name": "p", "namespace": "monitoring", "uid": "u"},
        "spec": {"nodeName": "n", "containers": [{"name": "other", "image": "x"}, container]},
        **changes,
    }


def test_the_exporter_s_container_is_told_by_its_image() -> None:
    found = exporter_container(pod())
    assert found
    assert found["name"] == "exporter"


def test_a_pod_without_a_node_or_about_to_go_has_no_exporter() -> None:
    waiting = pod()
    del waiting["spec"]["nodeName"]
    assert exporter_container(waiting) is None
    going = pod()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert exporter_container(going) is None
    assert exporter_container(pod(spec={"nodeName": "n", "containers": []})) is None


def test_arguments_follow_the_command() -> None:
    assert program_arguments({"command": ["/exporter", "-v"], "args": ["-conf=/c"]}) == [
        "-v",
        "-conf=/c",
    ]
    assert program_arguments({}) == []


@pytest.mark.parametrize(
    ("argument", "led"),
    [
        ("-conf=/data/config.yaml", "-conf=/v/0/config.yaml"),
        ("--conf=/data/deep/config.yaml", "--conf=/v/1/config.yaml"),
        ("/data", "/v/0"),
        ("-conf=/database/x", "-conf=/database/x"),
        ("-level=debug", "-level=debug"),
        ("plain", "plain"),
    ],
)
def test_paths_of_volumes_map_path_their_folders(argument: str, led: str) -> None:
    mounts = {"/data": Path("/v/0"), "/data/deep": Path("/v/1")}
    assert map_path(mounts, argument) == led


def test_variables_have_values_or_fields_of_the_pod() -> None:
    container = {
        "env": [
            {"name": "LEVEL", "value": "debug"},
            {"name": "EMPTY"},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "SPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ]
    }
    assert variables(container, pod()) == {
        "PATH": "/usr/bin:/bin",
        "LEVEL": "debug",
        "EMPTY": "",
        "NODE": "n",
        "SPACE": "monitoring",
    }
