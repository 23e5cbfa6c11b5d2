"""The options of a rehearsal, which a session hands to the server that it starts."""

import json
from dataclasses import asdict, dataclass

KINDS = ("real", "simulated")
DEFAULT_SCALE = {"real": 0.01, "simulated": 1.0}
"""Of images, by kind of node: no byte of a simulated node's images needs to exist."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a rehearsal."""

    scale: float
    """Images hold this fraction of the bytes that their tags claim."""
    nodes: str = "real"
    """`real`: kubelet and containerd, up to 8 in all; or `simulated`."""
    speed: float = 1.0
    """How many times faster than the clock simulated nodes work."""
    rate_limits: bool = True
    """Keep Kubernetes' own client-side rate limits."""
    faults: tuple[str, ...] = ()
    """Faults to inject: `NAME[:ARGS]` each, or `@FILE`."""

    def __str__(self) -> str:
        speed = f" at speed {self.speed:g}" if self.nodes == "simulated" else ""
        limits = "" if self.rate_limits else " without rate limits"
        faults = f", faults {' '.join(self.faults)}" if self.faults else ""
        return f"{self.nodes} nodes{speed}{limits}, images of scale {self.scale:g}{faults}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Options":
        given = json.loads(text)
        return cls(**{**given, "faults": tuple(given["faults"])})
