"""Clusters of real nodes on this machine: they pull real images, and nothing of them is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from images.make.build import build_image, build_pause
from images.registry.reference import Target, parse_target
from rehearsal.cluster.fleet import ClusterKey, FleetError, Mirror, PoolSpec
from rehearsal.machine.options import Options
from rehearsal.real_nodes import registry
from rehearsal.real_nodes.registry import LocalRegistry
from schema.image_tag import parse_tag
from tests.images.faulty_proxy import QuietHandler, serve
from tests.live.fleet.machine import KEY, Machine, locked_home, measured, texts
from tests.live.footprint import footprint, processes_of
from tests.live.harness import expect_same, needs_real_nodes
from tests.until import until

pytestmark = [pytest.mark.live, pytest.mark.full, pytest.mark.timeout(180), needs_real_nodes]

OTHERS = PoolSpec("monitoring", 1, "e2-standard-4", {"pull-study/role": "monitoring"}, ())
REPOSITORY = "owner/container-chonks"


@contextmanager
def machine(folder: Path) -> Iterator[tuple[Machine, LocalRegistry]]:
    with locked_home(folder) as home:
        images = registry.start(home.folder, home.folder / "registry")
        registry.wait_until_up(images)
        build_pause(parse_target(images.pause_image))
        yield Machine(home, Options(0.05), images=images, mirror=images.address), images


def test_nodes_pull_and_pools_and_clusters_grow_shrink_and_leave_nothing(tmp_path: Path) -> None:
    with machine(tmp_path / "h") as (local, images):
        fleet = local.fleet
        fleet.create_cluster(KEY)
        asked: list[str] = []
        with serve(mirror_without_images(asked)) as url:
            fleet.create_pool(
                KEY, replace(measured(2), mirrors=(Mirror("ghcr.io", f"http://{url}"),))
            )
            fleet.create_pool(KEY, OTHERS)
            expect_a_pull(local, images)
        assert any(path.startswith(f"/v2/{REPOSITORY}/manifests/") for path in asked)
        names = local.nodes("measured")
        assert names == ["gke-live-measured-0001", "gke-live-measured-0002"]
        assert local.admin.virtual_nodes() == {"gke-live-monitoring-0001"}
        for node in local.get("/api/v1/nodes", labelSelector="pull-study/measured=true"):
            labels = node["metadata"]["labels"]
            assert labels["cloud.google.com/gke-nodepool"] == "measured"
            assert labels["kubernetes.io/hostname"] == node["metadata"]["name"]
            assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")

        fleet.resize_pool(KEY, "measured", 3)
        with pytest.raises(FleetError, match="8 real nodes at most"):
            fleet.resize_pool(KEY, "measured", 12)
        assert len(local.nodes("measured")) == 3
        fleet.resize_pool(KEY, "measured", 2)
        assert local.nodes("measured") == names
        assert not list(local.home.clusters.glob("*/nodes/*-0003"))

        before, other = footprint(local.home.folder), ClusterKey("p", "us-central1-a", "other")
        fleet.create_cluster(other)
        fleet.create_pool(other, measured(1))
        fleet.delete_cluster(other)
        fleet.delete_cluster(other)
        expect_same(before, local.home.folder)
        assert local.nodes("measured") == names
        fleet.close()


def mirror_without_images(asked: list[str]) -> type[QuietHandler]:
    """A mirror that notes what containerd asks it for and has none of it."""

    def refuse(handler: QuietHandler) -> None:
        asked.append(handler.path)
        handler.send_error(404)

    return type("Mirror", (QuietHandler,), {"do_HEAD": refuse, "do_GET": refuse})


def expect_a_pull(local: Machine, images: LocalRegistry) -> None:
    """Expect every layer to come from the local registry, under the other registry's name."""
    tag = parse_tag("3-layers-size-20000000-bytes")
    built = build_image(tag, Target(images.address, REPOSITORY), scale=0.05)
    image = f"ghcr.io/{REPOSITORY}:{tag}@{built.digest}"
    before = images.log.read_text()
    events = local.events(local.run(0, image), at_least=4)
    assert [event["reason"] for event in events] == ["Pulling", "Pulled", "Created", "Started"]
    (pulled,) = texts(events, "Pulled")
    assert pulled.startswith(f'Successfully pulled image "{image}" in ')
    log = images.log.read_text().removeprefix(before)
    assert all(f"blobs/{layer.digest}?ns=ghcr.io" in log for layer in built.layers)


def test_the_end_does_not_wait_for_what_is_being_made(tmp_path: Path) -> None:
    folder = tmp_path / "h"
    before = footprint(folder)
    with machine(folder) as (local, _), ThreadPoolExecutor(2) as threads:
        local.fleet.create_cluster(KEY)
        pool = threads.submit(local.fleet.create_pool, KEY, measured(2))
        cluster = threads.submit(local.fleet.create_cluster, ClusterKey("p", "l", "other"))
        until(lambda: list(local.home.clusters.glob("*/nodes/*")), why="a node is being created")
        start = time.monotonic()
        local.fleet.close()
        assert time.monotonic() - start < 10
        for made in (pool, cluster):
            assert isinstance(made.exception(10), FleetError)
        with pytest.raises(FleetError, match="is ending"):
            local.fleet.create_cluster(KEY)
    assert processes_of(folder) == []
    expect_same(before, folder)
