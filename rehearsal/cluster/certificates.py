"""A cluster's own certificate authorities, and what they certify.

One is the cluster's: its API server, users and nodes. etcd has one of its own, so that a node's
certificate opens no etcd.
"""

from dataclasses import dataclass
from pathlib import Path

import trustme

_HOSTS = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its unencrypted key, both PEM."""

    pem: bytes
    key_pem: bytes

    def write(self, folder: Path, name: str) -> None:
        """Write NAME.crt and NAME.key, the key with mode 0600."""
        (folder / f"{name}.crt").write_bytes(self.pem)
        key = folder / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(self.key_pem)


@dataclass(frozen=True, slots=True)
class Authority(Certificate):
    """A certificate authority."""

    ca: trustme.CA


def make_authority() -> Authority:
    """Make a new authority."""
    ca = trustme.CA()
    return Authority(ca.cert_pem.bytes(), ca.private_key_pem.bytes(), ca)


def certify_administrator(authority: Authority) -> Certificate:
    """Issue a certificate of an administrator (`system:masters`).

    kwokctl has the API server use the same one, so it is valid for loopback too.
    """
    return _certify(
        authority, *_HOSTS, "127.0.0.1", "::1", user="rehearsal-admin", group="system:masters"
    )


def certify_node(authority: Authority, node: str) -> Certificate:
    """Issue a certificate of the user `system:node:NODE` in the group `system:nodes`.

    Kubernetes' node authorizer gives a kubelet with it the rights that a kubelet has.
    """
    # with a host, since Go refuses the empty list of hosts that trustme marks as critical
    return _certify(authority, node, user=f"system:node:{node}", group="system:nodes")


def certify_etcd(authority: Authority) -> Certificate:
    """Issue a certificate that etcd, its API server and its (only) peer show to each other."""
    return _certify(authority, "127.0.0.1", user="rehearsal-etcd", group="etcd")


def _certify(authority: Authority, *hosts: str, user: str, group: str) -> Certificate:
    issued = authority.ca.issue_cert(*hosts, common_name=user, organization_name=group)
    return Certificate(issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes())
