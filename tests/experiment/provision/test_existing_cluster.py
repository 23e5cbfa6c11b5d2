"""What is read of a kubeconfig and of nodes; a run on such a cluster is in tests/live."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiment.errors import Failure, PlanError, PreflightError
from experiment.provision.existing_cluster import measurable, read_context
from schema.names import MEASURED_LABEL

KEY = b"-----BEGIN PRIVATE KEY-----"


def write(folder: Path, user: dict[str, Any]) -> Path:
    path = folder / "config"
    config = {
        "current-context": "one",
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u"}},
            {"name": "two", "context": {"cluster": "gone", "user": "u"}},
        ],
        "clusters": [
            {"name": "c", "cluster": {"server": "https://h", "certificate-authority": "ca"}}
        ],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize(
    ("user", "file", "content"),
    [
        ({"token": "t-o-p"}, "tokenFile", b"t-o-p"),
        ({"client-key-data": base64.b64encode(KEY).decode()}, "client-key", KEY),
    ],
)
def test_credentials_go_into_files_that_the_user_alone_reads(
    tmp_path: Path, user: dict[str, Any], file: str, content: bytes
) -> None:
    name, config = read_context(write(tmp_path, user), "", tmp_path)
    kept = config["users"][0]["user"]
    assert name == "one"
    assert kept == {file: str(tmp_path / file)}
    assert (tmp_path / file).read_bytes() == content
    assert (tmp_path / file).stat().st_mode & 0o077 == 0
    assert content.decode() not in json.dumps(config)


def test_files_are_found_from_wherever_the_run_is_started(tmp_path: Path) -> None:
    _, config = read_context(write(tmp_path, {"client-key": "k"}), "one", tmp_path)
    assert config["users"][0]["user"] == {"client-key": str(tmp_path / "k")}
    assert config["clusters"][0]["cluster"]["certificate-authority"] == str(tmp_path / "ca")


def test_an_exec_plugin_stays(tmp_path: Path) -> None:
    plugin = {"exec": {"command": "gke-gcloud-auth-plugin"}}
    _, config = read_context(write(tmp_path, plugin), "one", tmp_path)
    assert config["users"][0]["user"] == plugin


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ("none", "the context 'none': it has no 'none'"),
        ("two", "the context 'two': it has no 'gone'"),
    ],
)
def test_a_context_that_is_not_there_is_said_with_those_that_are(
    tmp_path: Path, context: str, words: str
) -> None:
    with pytest.raises(PlanError) as caught:
        read_context(write(tmp_path, {}), context, tmp_path)
    assert words in caught.value.problem
    assert caught.value.fix == "--context, one of: one, two"


@pytest.mark.parametrize("text", ["", "[", "a: 1", "contexts: 5"])
def test_a_file_that_is_no_kubeconfig_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(PlanError, match="config"):
        read_context(tmp_path / "config", "", tmp_path)


def test_a_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="by a password") as caught:
        read_context(write(tmp_path, {"username": "u", "password": "p"}), "", tmp_path)
    assert caught.value.failure is Failure.PERMISSION


def node(name: str, *, ready: str = "True", **spec: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready}]
    return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": conditions}}


def test_nodes_that_are_not_ready_cordoned_or_tainted_are_not_measured() -> None:
    ours = {"key": MEASURED_LABEL, "effect": "NoSchedule", "value": "true"}
    soft = {"key": "x", "effect": "PreferNoSchedule"}
    hard = {"key": "x", "effect": "NoSchedule"}
    nodes = [
        node("good"),
        node("ours", taints=[ours, soft]),
        node("not-ready", ready="Unknown"),
        node("cordoned", unschedulable=True),
        node("tainted", taints=[hard]),
    ]
    assert [each["metadata"]["name"] for each in measurable(nodes)] == ["good", "ours"]
