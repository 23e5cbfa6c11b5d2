"""A cluster's own certificate authority, and what it certifies: its API server, users and nodes."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = timedelta(days=30)
"""Longer than any rehearsal; keys end with it."""
_EARLIER = timedelta(minutes=5)
_HOSTS = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )

    def write(self, folder: Path, name: str) -> None:
        """Write NAME.crt and NAME.key, the key for this user's eyes only."""
        (folder / f"{name}.crt").write_bytes(self.pem)
        key = folder / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(self.key_pem)


def make_authority() -> Certificate:
    """A new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("pull-study-rehearsal")
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(name, key)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    return Certificate(builder.sign(key, hashes.SHA256()), key)


def certify_administrator(authority: Certificate) -> Certificate:
    """A certificate of an administrator (`system:masters`).

    kwokctl has the API server use the same one, so it is valid for loopback too.
    """
    names = [x509.DNSName(host) for host in _HOSTS]
    addresses = [x509.IPAddress(ip_address(each)) for each in ("127.0.0.1", "::1")]
    return _certify(
        authority,
        _name("rehearsal-admin", "system:masters"),
        x509.SubjectAlternativeName([*names, *addresses]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
    )


def certify_node(authority: Certificate, node: str) -> Certificate:
    """A client certificate of the user `system:node:NODE` in the group `system:nodes`.

    Kubernetes' node authorizer gives a kubelet with it the rights that a kubelet has.
    """
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    return _certify(authority, _name(f"system:node:{node}", "system:nodes"), usage)


def _certify(
    authority: Certificate, subject: x509.Name, *extensions: x509.ExtensionType
) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(subject, key).issuer_name(authority.certificate.subject)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return Certificate(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + _VALID)
    )


def _name(common_name: str, organization: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)
