"""The runs of `make chaos`, each with faults that affect different cells or parts of it."""

from __future__ import annotations

from dataclasses import dataclass

SEED = 7
"""Of the images' order, so that a trial's number is the same image in every run."""


@dataclass(frozen=True)
class Scenario:
    """One run of the small study."""

    name: str
    faults: tuple[str, ...] = ()
    code: int = 0
    """Exit code that the run must end with."""
    resumed: bool = False
    """The run is killed; what counts is the result of `--resume`."""
    stack: str = "size-4"
    speed: int = 20
    """How many times faster than the clock; 0 for real nodes."""
    full: bool = False
    """Only run with `--full`."""
    alone: bool = False
    """Only run by its name."""


UNDISTURBED = Scenario("undisturbed")

MATRIX = (
    # these two first: they wait two minutes for events that never arrive
    Scenario(
        "events",
        (
            "event:trial=1,node=1,reason=Pulled",
            "event:trial=1,node=2,reason=Pulling",
            "event:trial=1,node=3,reason=Created",
            "event:trial=2,source=watch,share=0.4,seed=3",
            "event:trial=3,source=exporter,share=0.4,seed=4",
            "event:how=twice,trial=4,node=1",
            "event:how=late,trial=4,node=2,reason=Pulled,s=2",
            "event:how=late,trial=5,node=2,source=logging,s=8",
            "event:trial=6,node=3,reason=Started,source=logging",
        ),
        code=3,
    ),
    Scenario("defaults", ("exporter:how=defaults,trial=1",), speed=2),
    UNDISTURBED,
    Scenario(
        "pulls",
        (
            "pull:how=404,trial=1,node=1",
            "cached-image:trial=1,node=2",
            "cached-image:trial=1,node=3,disguised=1",
            "pull:how=429,trial=2,node=1",
            "pull:how=down,trial=2,node=2",
            "two-pods:trial=3,node=1,to=2",
            "node-slow:trial=4,node=3,factor=4",
            "disk-full:trial=6,node=4",
            "node-clock:node=2,minutes=5",
        ),
        code=3,
    ),
    Scenario(
        "connections",
        (
            "watch:how=closed,trial=1,s=2",
            "api-away:trial=2,s=8",
            "watch:how=410,trial=5",
            "api:how=slow,trial=3,resource=bindings,ms=700,count=0",
            "api:status=429,trial=3,resource=jobs",
            "api:trial=4,resource=bindings",
            "api:how=reset,trial=5,resource=bindings",
            "scheduler-stalled:trial=6,s=3",
            "exporter:trial=2",
            "logging:how=429",
            "logging:how=token,count=1",
            "google:count=2",
            "operation:how=stuck,s=4",
        ),
    ),
    Scenario(
        "nodes",
        (
            "node-not-ready:trial=1,node=1",
            "node-deleted:trial=3,node=2,replaced=1",
            "node-deleted:trial=4,node=3",
        ),
        code=16,
        speed=2,
    ),
    Scenario("killed", ("process-killed:trial=3",), resumed=True),
    Scenario(
        "real-nodes",
        (
            "pull:how=404,trial=1,node=1",
            "pull:how=429,trial=2,node=2",
            "pull:how=down,trial=2,node=3",
            "event:trial=3,node=4,reason=Pulled",
            "watch:how=410,trial=4",
            "api:how=reset,trial=5,resource=bindings",
            "scheduler-stalled:trial=6,s=3",
        ),
        code=3,
        speed=0,
        full=True,
    ),
    Scenario(
        "events-and-pulls",
        (
            "event:trial=1,node=1,reason=Pulled",
            "event:how=twice,trial=2,node=2",
            "event:how=late,trial=2,node=3,reason=Pulled",
            "event:trial=4,node=4,source=watch",
            "pull:how=404,trial=1,node=5",
            "pull:how=429,trial=2,node=6",
            "pull:how=down,trial=2,node=7",
            "cached-image:trial=3,node=8",
            "two-pods:trial=5,node=1,to=2",
            "api:how=reset,trial=3,resource=bindings",
            "watch:how=410,trial=6",
        ),
        code=3,
        stack="size-8",
        alone=True,
    ),
)
