"""The runner: one command that provisions a cluster, measures pulls, collects, and tears down."""
