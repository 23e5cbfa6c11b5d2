"""Nodes without kubelets: a process writes the pods' states and events that a kubelet would."""
