"""What a rehearsal is asked to be, told by a session to the server that it starts."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = ("real", "simulated")
DEFAULT_SCALE = {"real": 0.01, "simulated": 1.0}
"""Of images, by kind of node: no byte of a simulated node's images needs to exist."""


@dataclass(frozen=True, slots=True)
class Options:
    """What kind of rehearsal is asked for."""

    scale: float
    """Images hold this fraction of the bytes that their tags claim."""
    nodes: str = "real"
    """`real`: kubelet and containerd, up to 8 in all; or `simulated`."""
    speed: float = 1.0
    """How many times faster than the clock simulated nodes work."""
    rate_limits: bool = True
    """Keep Kubernetes' own client-side rate limits."""
    faults: tuple[str, ...] = ()
    """Things to go wrong: `NAME[:ARGS]` each, or `@FILE`."""

    def __str__(self) -> str:
        """In words, for a message."""
        speed = f" at speed {self.speed:g}" if self.nodes == "simulated" else ""
        limits = "" if self.rate_limits else " without rate limits"
        faults = f", faults {' '.join(self.faults)}" if self.faults else ""
        return f"{self.nodes} nodes{speed}{limits}, images of scale {self.scale:g}{faults}"

    def arguments(self) -> list[str]:
        """For a command line that `add_arguments` reads."""
        given = [f"--scale={self.scale!r}", f"--nodes={self.nodes}", f"--speed={self.speed!r}"]
        given += [] if self.rate_limits else ["--no-rate-limits"]
        return given + [f"--fault={fault}" for fault in self.faults]


def parse_options(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> tuple[Options, argparse.Namespace]:
    """Read a command line: the options, and what the parser has beside them."""
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--nodes", choices=KINDS, required=True)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--no-rate-limits", action="store_true")
    parser.add_argument("--fault", action="append", default=[])
    given = parser.parse_args(arguments)
    options = Options(
        scale=given.scale,
        nodes=given.nodes,
        speed=given.speed,
        rate_limits=not given.no_rate_limits,
        faults=tuple(given.fault),
    )
    return options, given
