"""Google on one machine: local stand-ins for what a run talks to."""
