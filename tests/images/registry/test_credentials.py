import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from images.errors import CredentialsError
from images.registry.credentials import Credentials, find_credentials, login_command
from tests.images.local_registry import LocalRegistry

GOOGLE = "us-central1-docker.pkg.dev"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "docker-config"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return folder


def configure(folder: Path, **config: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config))


def add_helper(folder: Path, name: str, script: str) -> None:
    path = folder.parent / "bin" / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


HELP = """read host; echo '{"Username":"u","Secret":"'$host'"}'"""
BASIC = base64.b64encode(b"me:pass:word").decode()
ME = Credentials("me", "pass:word")


@pytest.mark.parametrize(
    ("config", "registry", "expected"),
    [
        ({}, "ghcr.io", None),
        ({"auths": {"ghcr.io": {"auth": BASIC}}}, "ghcr.io", ME),
        ({"auths": {"ghcr.io": {"auth": BASIC}}}, "quay.io", None),
        ({"auths": {"https://acr.io": {"identitytoken": "r"}}}, "acr.io", ("<token>", "r")),
        ({"auths": {"docker.io": {"auth": BASIC}}}, "docker.io", ME),
        ({"auths": {"https://index.docker.io/v1/": {"auth": BASIC}}}, "docker.io", ME),
        ({"credHelpers": {"a.io": "works"}, "credsStore": "fails"}, "a.io", ("u", "a.io")),
        ({"auths": {"a.io": {}}, "credsStore": "works"}, "a.io", ("u", "a.io")),
        ({"credsStore": "works"}, "docker.io", ("u", "https://index.docker.io/v1/")),
        ({"credsStore": "empty"}, "ghcr.io", None),
    ],
)
def test_credentials_are_found_as_docker_stores_them(
    docker: Path, config: dict[str, Any], registry: str, expected: Any
) -> None:
    add_helper(docker, "works", HELP)
    add_helper(docker, "fails", "exit 1")
    add_helper(docker, "empty", "echo 'credentials not found in native keychain'; exit 1")
    configure(docker, **config)
    found = Credentials(*expected) if isinstance(expected, tuple) else expected
    assert find_credentials(registry, "org/chonks") == found


def test_containers_auth_json_comes_before_docker_and_names_repositories(
    docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As skopeo login writes it: containers-auth.json(5).
    names = ("quay.io", "quay.io/org", "quay.io/org/chonks")
    configure(docker, auths={"quay.io": {"username": "docker", "password": "p"}})
    folder = tmp_path / "run" / "containers"
    folder.mkdir(parents=True)
    entries = {name: {"username": name, "password": "p"} for name in names[1:]}
    (folder / "auth.json").write_text(json.dumps({"auths": entries}))
    found = [find_credentials("quay.io", path) for path in ("x", "org/x", "org/chonks")]
    assert [one and one.username for one in found] == ["docker", *names[1:]]
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "none"))
    assert find_credentials("quay.io", "org/x") == Credentials("docker", "p")


def test_skopeo_login_is_understood(
    docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: LocalRegistry
) -> None:
    monkeypatch.undo()
    path = tmp_path / "auth.json"
    command = ["skopeo", "login", "--authfile", str(path), "--tls-verify=false"]
    command += ["--username", "me", "--password-stdin", registry.name]
    subprocess.run(command, input=b"secret", check=True, capture_output=True, timeout=60)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    assert find_credentials(registry.name, "x") == Credentials("me", "secret")


@pytest.mark.parametrize(
    ("config", "script", "reason"),
    [
        ({"credsStore": "gone"}, "", "No such file or directory: 'docker-credential-gone'"),
        ({"credsStore": "bad"}, "echo secret-x; exit 3", "docker-credential-bad failed"),
        ({"credsStore": "bad"}, "echo '[1]'", "did not return credentials"),
        ({"auths": {"ghcr.io": {"auth": "%%"}}}, "", "cannot be read"),
    ],
)
def test_configured_but_unusable_is_an_error_without_a_secret(
    docker: Path, config: dict[str, Any], script: str, reason: str
) -> None:
    add_helper(docker, "bad", script)
    configure(docker, **config)
    with pytest.raises(CredentialsError, match=reason) as refused:
        find_credentials("ghcr.io", "org/chonks")
    assert refused.value.fix
    assert "secret-x" not in str(refused.value)


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_broken_configuration_is_named(docker: Path, text: str) -> None:
    (docker / "config.json").write_text(text)
    with pytest.raises(CredentialsError, match=r"config\.json"):
        find_credentials("ghcr.io", "org/chonks")


def test_a_secret_is_not_shown() -> None:
    assert "hidden" not in repr(Credentials("me", "hidden"))


def test_login_commands() -> None:
    assert login_command("ghcr.io") == "skopeo login ghcr.io"
    assert GOOGLE in login_command(GOOGLE)
    assert login_command(GOOGLE).startswith("gcloud auth login")
