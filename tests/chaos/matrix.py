"""The matrix of `make chaos`: runs, each with faults that strike different cells or parts of it."""

from __future__ import annotations

from dataclasses import dataclass

SEED = 7
"""Of the images' order, so that a trial's number names the same image in every run."""


_NO_RIGHT = 'Required "container.clusters.create" permission(s) for "projects/p".'


@dataclass(frozen=True)
class Scenario:
    """One run of the small study on four nodes."""

    name: str
    faults: tuple[str, ...] = ()
    code: int = 0
    """Exit code that the run must end with."""
    resumed: bool = False
    """The run is killed; what counts is what `--resume` makes of it."""
    stack: str = "size-4"
    speed: int = 20
    """How many times faster than the clock; 0 for real nodes."""
    full: bool = False
    """Takes too long for every change; `--full` alone runs it."""


UNDISTURBED = Scenario("undisturbed")

MATRIX = (
    # these two first: they wait two minutes for events that never come
    Scenario(
        "events",
        (
            "event-lost:trial=1,node=1,reason=Pulled",
            "event-lost:trial=1,node=2,reason=Pulling",
            "event-lost:trial=1,node=3,reason=Created",
            "event-lost:trial=2,source=watch,share=0.4,seed=3",
            "event-lost:trial=3,source=exporter,share=0.4,seed=4",
            "event-duplicated:trial=4,node=1",
            "event-late:trial=4,node=2,reason=Pulled,s=2",
            "event-out-of-order:trial=5,node=1,reason=Pulling,source=watch",
            "entry-late:trial=5,node=2,s=8",
            "entry-never:trial=6,node=3,reason=Started",
        ),
        code=3,
    ),
    Scenario("defaults", ("exporter-defaults:trial=1",), speed=2),
    UNDISTURBED,
    Scenario(
        "pulls",
        (
            "image-missing:trial=1,node=1",
            "cached-image:trial=1,node=2",
            "cached-image:trial=1,node=3,disguised=1",
            "registry-throttled:trial=2,node=1",
            "registry-down:trial=2,node=2",
            "two-pods:trial=3,node=1,to=2",
            "node-slow:trial=4,node=3,factor=4",
            "node-disk-full:trial=6,node=4",
            "node-clock-off:node=2,minutes=5",
        ),
        code=3,
    ),
    Scenario(
        "ways",
        (
            "watch-closed:trial=1,s=2",
            "watch-expired:trial=5",
            "api-slow:trial=3,verb=PATCH,ms=700",
            "api-throttled:trial=3,resource=jobs",
            "api-error:trial=4,verb=PATCH",
            "api-reset:trial=5,verb=PATCH",
            "scheduler-stalled:trial=6,s=3",
            "exporter-restarted:trial=2",
            "logging-throttled",
            "page-token-expired",
            "sink-late:s=1",
            "google-unavailable",
            "google-stuck:s=4",
        ),
    ),
    Scenario(
        "nodes",
        (
            "node-not-ready:trial=1,node=1",
            "node-replaced:trial=3,node=2",
            "node-deleted:trial=4,node=3",
        ),
        code=16,
        speed=2,
    ),
    Scenario("killed", ("process-killed:trial=3",), resumed=True),
    Scenario("quota", ("google-quota",), code=10),
    Scenario("conflict", ("google-conflict",), code=21),
    Scenario("capacity", ("google-operation-failed",), code=11),
    Scenario(
        "permission",
        (f"google-error:status=403,reason=forbidden,message={_NO_RIGHT}",),
        code=12,
    ),
    Scenario(
        "real-nodes",
        (
            "image-missing:trial=1,node=1",
            "registry-throttled:trial=2,node=2",
            "registry-down:trial=2,node=3",
            "event-lost:trial=3,node=4,reason=Pulled",
            "watch-expired:trial=4",
            "api-reset:trial=5,verb=PATCH",
            "scheduler-stalled:trial=6,s=3",
        ),
        code=3,
        speed=0,
        full=True,
    ),
)
