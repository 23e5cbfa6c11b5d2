"""Authentication and checks, against docker-registry as it asks for them."""

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from images.errors import CredentialsError, DigestError, NotInRegistryError, RegistryError
from images.make.build import build_image
from images.registry.client import Registry
from images.registry.reference import Target
from images.registry.upload import upload_bytes
from schema.image_tag import ImageTag
from tests.images.faulty_proxy import Fault, run_proxy, serve
from tests.images.local_registry import LocalRegistry, run_registry

BCRYPT = "$2y$05$wRcmjQzw6qoCFVK8rvdW5.Uo8D0vHrxVZ0QD.R6161Jo0L6mX5L6q"
"""bcrypt of `let-me-in`, cost 5."""
BASIC = "auth: {{htpasswd: {{realm: test, path: {path}}}}}\n"
TOKEN = (
    "auth: {{token: {{realm: 'http://{name}/token', service: test-registry, issuer: tests, "
    "rootcertbundle: {path}}}}}\n"
)


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    folder = tmp_path_factory.mktemp("basic")
    path = folder / "htpasswd"
    path.write_text(f"builder:{BCRYPT}\n")
    with run_registry(folder / "registry", BASIC.format(path=path)) as running:
        yield running


def log_in(monkeypatch: pytest.MonkeyPatch, folder: Path, registry: str, secret: str) -> None:
    folder.mkdir()
    entry = base64.b64encode(f"builder:{secret}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {registry: {"auth": entry}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))


def test_an_image_is_pushed_with_the_credentials_of_docker_login(
    basic: LocalRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log_in(monkeypatch, tmp_path / "login", basic.name, "let-me-in")
    built = build_image(ImageTag(3, 9_000_000), basic.target("private"))
    assert build_image(ImageTag(3, 9_000_000), basic.target("private")).digest == built.digest


def test_without_credentials_the_fix_is_docker_login(basic: LocalRegistry) -> None:
    with pytest.raises(CredentialsError, match="denies access to private without") as e:
        build_image(ImageTag(1, 1), basic.target("private"))
    assert e.value.fix == f"docker login {basic.name}"


def test_wrong_credentials_are_distinguished_from_none(
    basic: LocalRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log_in(monkeypatch, tmp_path / "login", basic.name, "wrong")
    with pytest.raises(CredentialsError, match="with the credentials found") as refused:
        build_image(ImageTag(1, 1), basic.target("private"))
    assert "wrong" not in str(refused.value)


class TokenServer:
    """Issues the tokens that docker-registry trusts, as ghcr.io and Docker Hub do."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, self.key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .sign(self.key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.der = certificate.public_bytes(serialization.Encoding.DER)
        self.scopes: list[str] = []

    def issue(self, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, name, text = scope.split(":")
            actions = sorted(text.split(","))  # the registry writes them in any order
            self.scopes.append(f"{kind}:{name}:{','.join(actions)}")
            access.append({"type": kind, "name": name, "actions": actions})
        now = int(dt.datetime.now(dt.UTC).timestamp())
        claims = {"iss": "tests", "sub": "", "aud": "test-registry", "jti": "1", "nbf": now - 90}
        claims |= {"iat": now - 90, "exp": now + 60, "access": access}
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(self.der).decode()]}
        parts = [encode(json.dumps(part).encode()) for part in (header, claims)]
        return ".".join([*parts, encode(self.sign(".".join(parts).encode()))])

    def sign(self, data: bytes) -> bytes:
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def tokens() -> TokenServer:
    return TokenServer()


@pytest.fixture(scope="module")
def by_token(
    tokens: TokenServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalRegistry]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = base64.b64encode(b"builder:let-me-in").decode()
            allowed = self.headers.get("Authorization") == f"Basic {known}"
            scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
            body = json.dumps({"token": tokens.issue(scopes)}).encode() if allowed else b"{}"
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    folder = tmp_path_factory.mktemp("token")
    (folder / "ca.pem").write_bytes(tokens.pem)
    with (
        serve(Handler) as name,
        run_registry(
            folder / "registry", TOKEN.format(name=name, path=folder / "ca.pem")
        ) as running,
    ):
        yield running


def test_an_image_is_pushed_with_tokens_for_its_repository(
    by_token: LocalRegistry, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log_in(monkeypatch, tmp_path / "login", by_token.name, "let-me-in")
    built = build_image(ImageTag(3, 9_000_000), by_token.target("org/private"))
    assert build_image(ImageTag(3, 9_000_000), built.target).sent == 0
    assert {scope.split(":")[1] for scope in tokens.scopes} == {"org/private"}
    # A token serves many requests: some forty are made, by threads that may ask at the same time.
    assert len(tokens.scopes) <= 8


def test_a_token_that_ends_in_mid_push_is_renewed(
    by_token: LocalRegistry, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    challenge = requests.get(f"http://{by_token.name}/v2/", timeout=10).headers["WWW-Authenticate"]
    with run_proxy(by_token.name) as proxy:
        log_in(monkeypatch, tmp_path / "login", proxy.name, "let-me-in")
        ended = {"WWW-Authenticate": challenge}
        proxy.faults.append(Fault("PATCH", "org/long", status=401, headers=ended))
        before = len(tokens.scopes)
        assert build_image(ImageTag(1, 9_000_000), Target(proxy.name, "org/long")).digest
        assert not proxy.faults
    assert tokens.scopes[before:].count("repository:org/long:pull,push") >= 2


def test_layers_are_mounted_with_a_token_for_both_repositories(
    by_token: LocalRegistry, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log_in(monkeypatch, tmp_path / "login", by_token.name, "let-me-in")
    first = build_image(ImageTag(2, 9_000_000), by_token.target("org/from"))
    before = len(tokens.scopes)
    second = build_image(ImageTag(2, 9_000_000), by_token.target("org/to"))
    assert second.digest == first.digest
    assert second.sent < 10_000  # the config alone
    assert {"repository:org/from:pull", "repository:org/to:pull,push"} <= set(
        tokens.scopes[before:]
    )


def test_no_credentials_go_to_a_token_server_without_encryption(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with run_proxy(registry.name) as proxy:
        log_in(monkeypatch, tmp_path / "login", proxy.name, "let-me-in")
        asks = {"WWW-Authenticate": 'Bearer realm="http://tokens.example.com/t",service="x"'}
        proxy.faults.append(Fault("GET", "manifests", status=401, headers=asks))
        with pytest.raises(RegistryError, match=r"tokens\.example\.com/t, which is not encrypted"):
            build_image(ImageTag(1, 1), Target(proxy.name, "x"))


def test_a_token_server_that_refuses_is_reported(by_token: LocalRegistry) -> None:
    with pytest.raises(CredentialsError, match="denies access to org/x") as refused:
        build_image(ImageTag(1, 1), by_token.target("org/x"))
    assert refused.value.fix == f"docker login {by_token.name}"


def test_a_blob_that_was_altered_is_found(registry: LocalRegistry) -> None:
    with Registry(registry.name) as client:
        blob = upload_bytes(client, "altered", b"as it was sent")
        stored = registry.data / "docker/registry/v2/blobs/sha256" / blob.digest[7:9]
        (stored / blob.digest[7:] / "data").write_bytes(b"as it is today")
        with pytest.raises(DigestError, match="the image is damaged"):
            list(client.open_blob("altered", blob.digest, blob.size))


def test_a_manifest_stored_under_another_digest_is_refused(registry: LocalRegistry) -> None:
    wrong = {"Docker-Content-Digest": "sha256:" + "0" * 64}
    with run_proxy(registry.name) as proxy, Registry(proxy.name) as client:
        proxy.faults.append(Fault("PUT", "manifests", status=201, headers=wrong))
        target = registry.target("altering", tag="x")
        with pytest.raises(DigestError, match="it altered the manifest"):
            client.put_manifest(target, "application/json", b"{}")


def test_a_manifest_that_is_not_its_digest_is_refused(registry: LocalRegistry) -> None:
    built = build_image(ImageTag(1, 1), registry.target("forged"))
    stored = registry.data / "docker/registry/v2/blobs/sha256" / built.digest[7:9]
    path = stored / built.digest[7:] / "data"
    path.write_bytes(path.read_bytes() + b" ")
    with (
        Registry(registry.name) as client,
        pytest.raises((DigestError, RegistryError)),
    ):
        client.get_manifest(built.target)


def test_what_is_not_there_is_named(registry: LocalRegistry) -> None:
    with Registry(registry.name) as client:
        assert client.find_manifest(registry.target("absent", tag="x")) is None
        with pytest.raises(NotInRegistryError, match=r"MANIFEST_UNKNOWN|NAME_UNKNOWN"):
            client.get_manifest(registry.target("absent", tag="x"))
        digest = f"sha256:{hashlib.sha256(b'nothing').hexdigest()}"
        assert not client.has_blob("absent", digest)


def test_no_token_goes_to_another_host(registry: LocalRegistry) -> None:
    class Handler(BaseHTTPRequestHandler):
        seen: list[str | None] = []  # noqa: RUF012

        def do_PUT(self) -> None:
            self.seen.append(self.headers.get("Authorization"))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with serve(Handler) as elsewhere, Registry(registry.name) as client:
        client._tokens["x"] = "Bearer secret"
        client.request("PUT", f"http://{elsewhere}/store", repository="x", data=b"")
    assert Handler.seen == [None]
