"""Commands about clusters, besides a run: list, sweep, destroy, recover, extend."""
