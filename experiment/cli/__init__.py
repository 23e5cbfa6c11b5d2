"""What a user types: one module per command group. Parses and prints; holds no logic of a run."""
