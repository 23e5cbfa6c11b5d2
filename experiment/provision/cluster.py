"""Where a run measures: the interface that experiment.run_study works with."""

from datetime import datetime
from typing import Protocol

from experiment.terminal.progress import Say
from schema.run_records import ZoneAttempt
from schema.stack_outputs import StackOutputs


class Cluster(Protocol):
    """Where a run measures."""

    say: Say
    """Called with each step; the owner of the run's terminal sets it."""
    name: str
    """Of the stack, or of the existing cluster."""
    node_count: int
    """Measured nodes: N of the study."""
    machine_type: str
    """Of the measured nodes."""
    disk_gb: int
    """Of a measured node, where images are unpacked."""
    usd_per_hour: float
    """List price of the whole cluster; 0 if unknown."""
    usd_per_byte: float
    """Of what a node pulls through Cloud NAT; 0 for nodes with public addresses."""
    price_note: str
    """What these prices cover, and what they do not, in sentences."""
    exists: bool
    """Something may exist that teardown must delete."""
    fresh: bool
    """The nodes can hold no image but their original ones; known after provisioning."""

    created_at: datetime | None
    """Of the cluster that `recover` found; None if it found none."""

    taking_down: str
    """What teardown does, as a part of a sentence."""
    zone_attempts: tuple[ZoneAttempt, ...]
    """Of the last provisioning: the zones that were tried, in order."""

    @property
    def description(self) -> str:
        """Nodes and where they are."""

    def recover(self, *, resumed: bool) -> None:
        """Clean up after a killed run, and refuse a cluster that this run must not use.

        Args:
            resumed: the run measured before; a running cluster is its own and is kept if healthy.

        Raises:
            UserError: the cluster cannot be used.
        """

    def provision(self) -> StackOutputs:
        """Bring it up as declared; one that is already up is only confirmed.

        Raises:
            UserError: it did not come up.
        """

    def teardown(self) -> None:
        """Delete it, and verify that it is deleted.

        Raises:
            UserError: something may be left.
        """

    def kept(self) -> str:
        """Give up a cluster that is kept; return what it costs, and how to delete it."""

    def standing(self) -> str:
        """Return what exists now, its cost and how to delete it; empty if nothing does."""
