"""Authentication and checks, against docker-registry as it asks for them."""

import base64
import gzip
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import google.auth.crypt
import google.auth.jwt
import pytest
import trustme

from images.errors import (
    BadImageError,
    CredentialsError,
    DigestError,
    NotInRegistryError,
    RegistryError,
)
from images.make.build import build_image
from images.make.remote import open_remote
from images.registry.client import Registry
from images.registry.reference import Target
from schema.image_tag import ImageTag
from tests.images.faulty_proxy import Fault, Proxy, QuietHandler, run_proxy, serve
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


@pytest.mark.parametrize(("secret", "found"), [("", "without"), ("wrong", "with the")])
def test_wrong_credentials_are_distinguished_from_none(
    basic: LocalRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secret: str, found: str
) -> None:
    log_in(monkeypatch, tmp_path / "login", basic.name if secret else "other.io", secret)
    with pytest.raises(CredentialsError, match=f"denies access to private {found}") as refused:
        build_image(ImageTag(1, 1), basic.target("private"))
    assert "wrong" not in str(refused.value)
    assert refused.value.fix == f"skopeo login {basic.name}"


class TokenServer:
    """Issues the tokens that docker-registry trusts, as ghcr.io and Docker Hub do."""

    def __init__(self) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("tests", key_type=trustme.KeyType.RSA)
        self.pem = authority.cert_pem.bytes()
        self.signer = google.auth.crypt.RSASigner.from_string(issued.private_key_pem.bytes())
        chain = [pem.bytes().decode() for pem in issued.cert_chain_pems]
        self.x5c = ["".join(pem.strip().splitlines()[1:-1]) for pem in chain]
        self.scopes: list[str] = []

    def issue(self, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, name, text = scope.split(":")
            actions = sorted(text.split(","))  # the registry writes them in any order
            self.scopes.append(f"{kind}:{name}:{','.join(actions)}")
            access.append({"type": kind, "name": name, "actions": actions})
        now = int(time.time())
        claims = {"iss": "tests", "sub": "", "aud": "test-registry", "jti": "1", "nbf": now - 90}
        claims |= {"iat": now - 90, "exp": now + 60, "access": access}
        token = google.auth.jwt.encode(self.signer, claims, header={"x5c": self.x5c})
        return str(token.decode())


@pytest.fixture(scope="module")
def tokens() -> TokenServer:
    return TokenServer()


@pytest.fixture(scope="module")
def by_token(
    tokens: TokenServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalRegistry]:
    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802
            known = base64.b64encode(b"builder:let-me-in").decode()
            allowed = self.headers.get("Authorization") == f"Basic {known}"
            scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
            body = json.dumps({"token": tokens.issue(scopes)}).encode() if allowed else b"{}"
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    folder = tmp_path_factory.mktemp("token")
    certificate = folder / "ca.pem"
    certificate.write_bytes(tokens.pem)
    with serve(Handler) as name:
        config = TOKEN.format(name=name, path=certificate)
        with run_registry(folder / "registry", config) as running:
            yield running


def test_an_image_is_pushed_with_tokens_for_its_repository(
    by_token: LocalRegistry, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log_in(monkeypatch, tmp_path / "login", by_token.name, "let-me-in")
    tokens.scopes.clear()
    built = build_image(ImageTag(3, 9_000_000), by_token.target("org/private"))
    assert build_image(ImageTag(3, 9_000_000), built.target).sent == 0
    # The first request reads a manifest, and its token allows to push already. A token serves
    # many requests: some forty are made, by threads that may ask at the same time.
    assert tokens.scopes == ["repository:org/private:pull,push"] * 2


@pytest.fixture
def token_proxy(
    by_token: LocalRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Proxy]:
    """A proxy in front of the registry that asks for tokens; the user is logged in."""
    with run_proxy(by_token.name) as proxy:
        log_in(monkeypatch, tmp_path / "login", proxy.name, "let-me-in")
        yield proxy


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_ends_or_does_not_suffice_is_renewed(
    token_proxy: Proxy, tokens: TokenServer, no_sleep: list[float], method: str, status: int
) -> None:
    # Neither fault carries a challenge, as a 403 of some registries: /v2/ has one.
    token_proxy.faults.append(Fault(method, "org/renewed", status=status))
    tokens.scopes.clear()
    tag = ImageTag(1, 9_000_000 + status, method.lower())
    assert build_image(tag, Target(token_proxy.name, "org/renewed")).digest
    assert tokens.scopes == ["repository:org/renewed:pull,push"] * 2


def test_a_refusal_that_stays_is_reported(token_proxy: Proxy, tokens: TokenServer) -> None:
    token_proxy.faults.append(Fault("POST", "org/never", status=403, always=True))
    tokens.scopes.clear()
    with pytest.raises(CredentialsError, match="denies access to org/never with the credentials"):
        build_image(ImageTag(1, 1), Target(token_proxy.name, "org/never"))
    assert len(tokens.scopes) == 2


def test_credentials_are_looked_up_for_each_token(token_proxy: Proxy, tmp_path: Path) -> None:
    # Those of gcloud end after an hour.
    with Registry(token_proxy.name, push=True) as client:
        assert not client.has_blob("org/long", "sha256:" + "0" * 64)
        (tmp_path / "login" / "config.json").write_text("{}")
        token_proxy.faults.append(Fault("HEAD", "blobs", status=401))
        with pytest.raises(CredentialsError, match="without credentials"):
            client.has_blob("org/long", "sha256:" + "0" * 64)


def test_a_registry_in_other_case_gets_the_token(
    by_token: LocalRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = by_token.name.replace("127.0.0.1", "LOCALHOST")
    log_in(monkeypatch, tmp_path / "login", name, "let-me-in")
    assert build_image(ImageTag(1, 3_000_000), Target(name, "org/case")).digest


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
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log_in(monkeypatch, tmp_path / "login", proxy.name, "let-me-in")
    asks = {"WWW-Authenticate": 'Bearer realm="http://tokens.example.com/t",service="x"'}
    proxy.faults.append(Fault("GET", "manifests", status=401, headers=asks))
    with pytest.raises(RegistryError, match=r"tokens\.example\.com/t, which is not encrypted"):
        build_image(ImageTag(1, 1), Target(proxy.name, "x"))


@pytest.mark.parametrize("kind", ["identitytoken", "auth"])
def test_credentials_do_not_follow_a_redirect_of_the_token_server(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    entry = {kind: base64.b64encode(b"me:REFRESH-SECRET").decode()}
    (tmp_path / "docker").mkdir()
    auths = {"auths": {proxy.name: entry}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps(auths))
    asks = {"WWW-Authenticate": f'Bearer realm="http://{proxy.name}/token",service="x"'}
    moved = {"Location": f"http://{proxy.name}/elsewhere"}
    proxy.faults.append(Fault("GET", "manifests", status=401, headers=asks))
    proxy.faults += [Fault(method, "/token", 307, moved) for method in ("GET", "POST")]
    with pytest.raises(CredentialsError):
        build_image(ImageTag(1, 1), Target(proxy.name, "x"))
    assert not [line for line in proxy.seen if "elsewhere" in line]


def test_a_token_server_that_refuses_is_reported(by_token: LocalRegistry) -> None:
    with pytest.raises(CredentialsError, match="denies access to org/x") as refused:
        build_image(ImageTag(1, 1), by_token.target("org/x"))
    assert refused.value.fix == f"skopeo login {by_token.name}"


def test_a_manifest_stored_under_another_digest_is_refused(proxy: Proxy) -> None:
    wrong = {"Docker-Content-Digest": "sha256:" + "0" * 64}
    proxy.faults.append(Fault("PUT", "manifests", status=201, headers=wrong))
    with Registry(proxy.name, push=True) as client:
        target = Target(proxy.name, "altering", tag="x")
        with pytest.raises(DigestError, match="it altered the manifest"):
            client.put_manifest(target, "application/json", b"{}")


LARGE = b"[" * (5 << 20)


@pytest.mark.parametrize(("body", "named"), [(b"{} ", b"{}"), (LARGE, LARGE)], ids=["1", "5 MiB"])
def test_a_manifest_that_is_not_its_digest_or_too_large_is_refused(
    proxy: Proxy, body: bytes, named: bytes
) -> None:
    digest = f"sha256:{hashlib.sha256(named).hexdigest()}"
    proxy.faults.append(Fault("GET", "manifests", status=200, body=body))
    with Registry(proxy.name) as client, pytest.raises(DigestError, match="cannot be trusted"):
        client.find_manifest(Target(proxy.name, "forged", digest=digest))


PACKED = gzip.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    ("body", "headers"),
    [(bytes(50_000_000), {}), (PACKED, {"Content-Encoding": "gzip"})],
    ids=["without an end", "packed on the way"],
)
def test_no_more_of_a_blob_is_read_than_its_descriptor_says(
    proxy: Proxy, body: bytes, headers: dict[str, str]
) -> None:
    proxy.faults.append(Fault("GET", "blobs", status=200, body=body, headers=headers))
    read: list[bytes] = []
    with Registry(proxy.name) as client, pytest.raises(DigestError, match="the image is damaged"):
        read += client.open_blob("endless", "sha256:" + "0" * 64, 10)
    assert read == []


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (b'{"config": {"digest": "sha256:1", "size": 99999999}}', "which is too large"),
        (b"[" * 100_000, "it has no config"),
        (b"{}", "it has no config"),
    ],
)
def test_what_is_no_image_is_refused(proxy: Proxy, config: bytes, reason: str) -> None:
    proxy.faults.append(Fault("GET", "manifests", status=200, body=config))
    with (
        pytest.raises(BadImageError, match=reason),
        open_remote(Target(proxy.name, "x", tag="y")),
    ):
        pass


@pytest.mark.parametrize("body", [b'{"errors": "x"}', b"[" * 60_000, b"\x1b[2J", b""])
def test_an_error_that_cannot_be_read_is_still_an_error(proxy: Proxy, body: bytes) -> None:
    proxy.faults.append(Fault("HEAD", "blobs", status=400, body=body))
    proxy.faults.append(Fault("GET", "manifests", status=400, body=body))
    with Registry(proxy.name) as client, pytest.raises(RegistryError, match="no reason given"):
        client.find_manifest(Target(proxy.name, "x", tag="y"))


def test_what_is_not_there_is_named(registry: LocalRegistry) -> None:
    digest = "sha256:" + "0" * 64
    with Registry(registry.name) as client:
        assert client.find_manifest(registry.target("absent", tag="x")) is None
        assert not client.has_blob("absent", digest)
        with pytest.raises(NotInRegistryError, match=r"BLOB_UNKNOWN|NAME_UNKNOWN"):
            list(client.open_blob("absent", digest, 1))
