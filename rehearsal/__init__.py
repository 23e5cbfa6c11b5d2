"""Google on one machine: local fakes of what a run talks to."""

from rehearsal.session import session

__all__ = ["session"]
