"""Nodes of kubelet and containerd in namespaces of their own, and the registry they pull from."""
