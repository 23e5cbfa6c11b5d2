"""A Kubernetes control plane and an event exporter on loopback. Holds no nodes."""
