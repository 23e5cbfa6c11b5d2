"""Google on one machine: local stand-ins for what a run talks to."""

from rehearsal.session import session

__all__ = ["session"]
