"""The nodes' init script, run as a node runs it: by bash, on a configuration of containerd."""

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from infra.components.node_init import bucket_name, script
from infra.config import parse_settings
from tests.infra.conftest import Declare
from tests.infra.test_stack_files import NOW

TRANSFER = "io.containerd.transfer.v1.local"
GKE_LIKE = """\
version = 2
required_plugins = ["io.containerd.grpc.v1.cri"]

[plugins."io.containerd.grpc.v1.cri"]
  max_concurrent_downloads = 10

[plugins."io.containerd.grpc.v1.cri".containerd]
  disable_snapshot_annotations = false
  discard_unpacked_layers = true

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/hosts.d"

[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
  endpoint = ["https://mirror.gcr.io", "https://registry-1.docker.io"]

[metrics]
  address = "127.0.0.1:1338"
"""
ALREADY = f"""\
version = 3

[plugins.'{TRANSFER}']
  max_concurrent_unpacks = 1
  check_platform_supported = true

[plugins.'io.containerd.cri.v1.images']
  use_local_image_pull = true
  snapshotter = "overlayfs"
"""


def run(folder: Path, config: str, unpacks: int = 9) -> dict[str, Any]:
    """The configuration after the script, whose marker is in the folder."""
    path, text = folder / "config.toml", script(unpacks)
    path.write_text(config)
    marker = text.replace("marker=/var/log/", f"marker={folder}/")
    assert marker != text
    subprocess.run(
        ["bash", "-c", marker],
        env={"PATH": os.environ["PATH"], "CONTAINERD_CONFIG": str(path)},
        check=True,
        timeout=30,
    )
    assert (folder / "pull-study/parallel-unpacks").read_text() == f"{unpacks}\n"
    assert not path.with_suffix(".toml.new").exists()
    return tomllib.loads(path.read_text())


def test_what_keeps_containerd_from_unpacking_in_parallel_goes_and_all_else_stays(
    tmp_path: Path,
) -> None:
    after = run(tmp_path, GKE_LIKE)
    assert after["plugins"].pop(TRANSFER) == {"max_concurrent_unpacks": 9}
    assert after == {
        "version": 2,
        "required_plugins": ["io.containerd.grpc.v1.cri"],
        "plugins": {
            "io.containerd.grpc.v1.cri": {
                "containerd": {},
                "registry": {"config_path": "/etc/containerd/hosts.d"},
            }
        },
        "metrics": {"address": "127.0.0.1:1338"},
    }


@pytest.mark.parametrize("times", [1, 2])
def test_a_setting_that_is_there_is_replaced(tmp_path: Path, times: int) -> None:
    for _ in range(times):
        after = run(tmp_path, ALREADY, 4)
    assert after["plugins"] == {
        TRANSFER: {"max_concurrent_unpacks": 4, "check_platform_supported": True},
        "io.containerd.cri.v1.images": {"snapshotter": "overlayfs"},
    }


def test_the_measured_nodes_alone_run_it_from_a_bucket_that_they_can_read(
    declare_stack: Declare,
) -> None:
    declared = {each.name: each for each in declare_stack(parallelUnpacks=9).custom}
    uploaded, bucket = declared["node-init-script"].inputs, declared["node-init"].inputs
    assert uploaded["content"] == script(9)
    reader = declared["node-init-reader"].inputs
    assert uploaded["bucket"] == reader["bucket"]
    assert bucket["name"].startswith("pull-study-size-4-")
    assert reader["role"] == "roles/storage.objectViewer"
    init = declared["measured"].inputs["nodeConfig"]["linuxNodeConfig"]["customNodeInit"]
    assert init["initScript"]["gcsUri"] == f"gs://{uploaded['bucket']}/{uploaded['name']}"
    assert "linuxNodeConfig" not in declared["monitoring"].inputs["nodeConfig"]
    others = {each.name for each in declare_stack().custom}
    assert not any(name.startswith("node-init") for name in others)


def test_the_buckets_name_fits_and_is_of_one_project_and_stack() -> None:
    names = {
        bucket_name(parse_settings({"nodeCount": "4"}, stack=stack, project=project, now=NOW))
        for stack in ("a", "b" * 23)
        for project in ("project-one", "project-two")
    }
    assert len(names) == 4
    assert max(map(len, names)) <= 63
