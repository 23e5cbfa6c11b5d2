"""A cluster of the rehearsal in a process of its own, until its input ends.

    python -m benchmarks._release_cluster HOME NODES real|simulated limits|no-limits TAG ...

It prints the administrator's kubeconfig once the nodes are ready and the images can be pulled.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

from images.make.build import build_image, build_pause
from images.registry.reference import Target, parse_target
from rehearsal.cluster.fleet import ClusterKey, PoolSpec
from rehearsal.local_fleet import LocalFleet
from rehearsal.machine.home import Home, clear, lock
from rehearsal.machine.options import DEFAULT_SCALE, Options
from rehearsal.machine.programs import write_plugin
from rehearsal.machine.web import serving
from rehearsal.real_nodes import registry
from rehearsal.simulated_nodes.manifests import claim_routes
from schema.image_tag import parse_tag
from schema.names import MEASURED_LABEL

REPOSITORY = "owner/container-chonks"
_KEY = ClusterKey("p", "us-central1-a", "release")


def main(folder: str, nodes: str, kind: str, limits: str, *tags: str) -> None:
    """Serve until the input ends."""
    home, options = Home(Path(folder)), Options(DEFAULT_SCALE[kind], kind)
    options = Options(options.scale, kind, rate_limits=limits == "limits")
    if lock(home) is None:
        sys.exit(f"{folder} is in use.")
    write_plugin(home)
    with ExitStack() as opened:
        opened.callback(clear, home)
        images = None
        if kind == "real":
            images = registry.start(home.folder, home.folder / "registry")
            registry.wait_until_up(images)
            build_pause(parse_target(images.pause_image))
            for tag in tags:
                target = Target(images.address, REPOSITORY)
                build_image(parse_tag(tag), target, scale=options.scale)
            mirror = images.address
        else:
            url = opened.enter_context(serving(claim_routes(options.scale)))
            mirror = url.removeprefix("http://")
        fleet = LocalFleet(
            home, images=images, mirror=mirror, write_log=lambda _: None, options=options
        )
        opened.callback(fleet.close)
        fleet.create_cluster(_KEY)
        taints = ((MEASURED_LABEL, "true", "NoSchedule"),)
        labels = {MEASURED_LABEL: "true"}
        fleet.create_pool(_KEY, PoolSpec("measured", int(nodes), "n1-standard-16", labels, taints))
        print(next(home.clusters.glob("*/admin.kubeconfig")), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
