"""Nodes of kubelet and containerd in their own namespaces, and the registry they pull from."""
