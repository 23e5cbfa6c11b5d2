"""The GKE API: clusters, node pools, operations."""
