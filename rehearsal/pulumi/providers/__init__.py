"""Thin stand-ins of Pulumi's gcp and kubernetes providers, over the provider protocol.

Used only on a machine where the official plugins are not installed. They speak the engine's gRPC
protocol and make the calls that the official plugins make: the gcp provider to the endpoints in
GOOGLE_..._CUSTOM_ENDPOINT, the kubernetes provider to the cluster of its kubeconfig. They refuse
what the official ones refuse, and they refuse what they do not implement; they deliberately
support the resource types of this project and no others.
"""
