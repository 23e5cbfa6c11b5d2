from __future__ import annotations

import stat
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from rehearsal.cluster.certificates import certify_administrator, certify_node, make_authority


def test_a_node_s_certificate_is_what_the_node_authorizer_knows() -> None:
    authority = make_authority()
    node = certify_node(authority, "node-1").certificate
    node.verify_directly_issued_by(authority.certificate)
    assert node.subject.rfc4514_string() == "CN=system:node:node-1,O=system:nodes"
    usage = node.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_the_administrator_s_certificate_serves_loopback_too() -> None:
    authority = make_authority()
    admin = certify_administrator(authority).certificate
    admin.verify_directly_issued_by(authority.certificate)
    assert admin.subject.rfc4514_string() == "CN=rehearsal-admin,O=system:masters"
    names = admin.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "127.0.0.1" in map(str, names.get_values_for_type(x509.IPAddress))


def test_an_authority_may_sign_and_has_a_valid_serial() -> None:
    authority = make_authority().certificate
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert authority.serial_number > 0


def test_a_key_is_written_for_this_user_s_eyes(tmp_path: Path) -> None:
    make_authority().write(tmp_path, "ca")
    assert (tmp_path / "ca.crt").read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600
