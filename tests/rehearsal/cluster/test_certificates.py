from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from rehearsal.cluster.certificates import (
    Certificate,
    certify_administrator,
    certify_node,
    make_authority,
)

AUTHORITY = make_authority()


def parse(certificate: Certificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate.pem)


@pytest.mark.parametrize(
    ("certificate", "user", "group"),
    [
        (certify_node(AUTHORITY, "node-1"), "system:node:node-1", "system:nodes"),
        (certify_administrator(AUTHORITY), "rehearsal-admin", "system:masters"),
    ],
)
def test_a_certificate_names_the_user_and_group_that_kubernetes_reads(
    certificate: Certificate, user: str, group: str
) -> None:
    found = parse(certificate)
    found.verify_directly_issued_by(parse(AUTHORITY))
    names = {each.rfc4514_attribute_name: each.value for each in found.subject}
    assert (names["CN"], names["O"]) == (user, group)
    hosts = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(hosts) > 0  # Go refuses a critical extension without content
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.CLIENT_AUTH in usage


def test_the_administrator_s_certificate_serves_loopback_too() -> None:
    found = parse(certify_administrator(AUTHORITY))
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "127.0.0.1" in map(str, names.get_values_for_type(x509.IPAddress))


def test_a_key_is_written_with_mode_0600(tmp_path: Path) -> None:
    AUTHORITY.write(tmp_path, "ca")
    assert (tmp_path / "ca.crt").read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600
