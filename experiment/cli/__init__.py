"""The commands: one module per command group. Parses and prints; holds no logic of a run."""
