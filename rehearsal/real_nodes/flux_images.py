"""Images that a MiniCluster can run: study images with bash, and a stand-in of the image of Flux.

Both hold busybox and Debian's static bash. A real image of Flux needs its own distribution's
programs in the study's images; `ubuntu` in the name of a repository says that they are there, and
in a rehearsal that bash is.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path

from images.errors import PlanError
from images.make.base import Base
from images.make.busybox import find_busybox
from images.make.layer_tar import padding, tar_header
from images.make.plan import plan_image
from images.make.push import BuiltImage, push_plan
from images.registry.reference import Target
from schema.image_tag import ImageTag
from tools import packages

_PACKAGE = "bash-static"
_FLUX = b"""#!/bin/bash
# A stand-in of Flux for rehearsals: it starts no broker, and each pod works for itself.
case $1 in
  start) shift; exec "$@" ;;
  broker) exit 0 ;;
esac
echo "a stand-in of Flux cannot: flux $*" >&2
exit 2
"""


def needs_bash(repository: str) -> bool:
    """Return whether images of a repository are such as a MiniCluster can run."""
    return "ubuntu" in repository


def build(tag: ImageTag, target: Target, *, scale: float) -> BuiltImage:
    """Build and push the image of a tag with bash, and with the stand-in of Flux.

    Raises:
        UserError: as images.make.build.build_image; also where bash-static is not installed.
    """
    base = _base()
    plan = plan_image(tag, scale=scale, base=base.name)
    return push_plan(plan, [target], base, overwrite=True)


@cache
def _base() -> Base:
    package = next(each for each in packages.PACKAGES if each.name == _PACKAGE)
    path = package.path()
    if not path:
        problem = (
            f"{_PACKAGE} is not installed, and a MiniCluster's containers are started by bash."
        )
        raise PlanError(problem, packages.install_command([package]))
    busybox, bash = find_busybox(), Path(path).read_bytes()
    files = {"bin/bash": bash, "opt/view/bin/flux": _FLUX}
    digest = hashlib.sha256(busybox.id.encode() + b"".join(files.values())).hexdigest()
    return replace(
        busybox,
        name=f"bash-{digest[:12]}",
        id=digest,
        tar=lambda: chain(busybox.tar(), _members(files)),
    )


def _members(files: dict[str, bytes]) -> Iterator[bytes]:
    for path, content in files.items():
        yield tar_header(path, size=len(content), mode=0o755) + content + padding(len(content))
