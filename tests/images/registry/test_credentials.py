import base64
import json
from pathlib import Path
from typing import Any

import pytest

from images.errors import CredentialsError
from images.registry.credentials import Credentials, find_credentials, login_command

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


def test_without_any_there_are_none(docker: Path) -> None:
    assert find_credentials("ghcr.io") is None


def test_an_inline_entry_is_read(docker: Path) -> None:
    entry = base64.b64encode(b"me:pass:word").decode()
    configure(docker, auths={"ghcr.io": {"auth": entry}})
    assert find_credentials("ghcr.io") == Credentials("me", "pass:word")
    assert find_credentials("quay.io") is None


def test_an_identity_token_is_exchanged_by_oauth2(docker: Path) -> None:
    configure(docker, auths={"https://acr.io": {"identitytoken": "refresh"}})
    found = find_credentials("acr.io")
    assert found is not None
    assert found.is_refresh_token


def test_a_helper_for_the_registry_comes_before_the_store(docker: Path) -> None:
    add_helper(docker, "one", """read host; echo '{"Username":"u","Secret":"'$host'"}'""")
    add_helper(docker, "two", "exit 1")
    configure(docker, credHelpers={"ghcr.io": "one"}, credsStore="two")
    assert find_credentials("ghcr.io") == Credentials("u", "ghcr.io")


def test_the_store_is_queried_last(docker: Path) -> None:
    add_helper(docker, "all", """echo '{"Username":"u","Secret":"s"}'""")
    configure(docker, auths={"ghcr.io": {}}, credsStore="all")
    assert find_credentials("ghcr.io") == Credentials("u", "s")


def test_a_store_that_knows_none_is_no_failure(docker: Path) -> None:
    add_helper(docker, "all", "echo 'credentials not found in native keychain'; exit 1")
    configure(docker, credsStore="all")
    assert find_credentials("ghcr.io") is None


def test_gcloud_serves_artifact_registry_without_docker(docker: Path) -> None:
    script = """echo '{"Username":"_dcgcloud_token","Secret":"t"}'"""
    add_helper(docker, "gcloud", script)
    assert find_credentials(GOOGLE) == Credentials("_dcgcloud_token", "t")
    assert find_credentials("ghcr.io") is None


def test_a_token_in_the_environment_serves_ghcr(
    docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_x")
    assert find_credentials("ghcr.io") == Credentials("token", "ghp_x")
    assert find_credentials("quay.io") is None


@pytest.mark.parametrize(
    ("config", "script", "reason"),
    [
        ({"credsStore": "gone"}, "", "docker-credential-gone for ghcr.io, but it is not on PATH"),
        ({"credsStore": "bad"}, "echo secret-x; exit 3", "docker-credential-bad failed"),
        ({"credsStore": "bad"}, "echo '[1]'", "did not return credentials"),
        ({"auths": {"ghcr.io": {"auth": "%%"}}}, "", "is not base64"),
    ],
)
def test_configured_but_unusable_is_an_error_without_a_secret(
    docker: Path, config: dict[str, Any], script: str, reason: str
) -> None:
    add_helper(docker, "bad", script)
    configure(docker, **config)
    with pytest.raises(CredentialsError, match=reason) as refused:
        find_credentials("ghcr.io")
    assert refused.value.fix
    assert "secret-x" not in str(refused.value)


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_broken_configuration_is_named(docker: Path, text: str) -> None:
    (docker / "config.json").write_text(text)
    with pytest.raises(CredentialsError, match=r"config\.json"):
        find_credentials("ghcr.io")


def test_a_secret_is_not_shown() -> None:
    assert "hidden" not in repr(Credentials("me", "hidden"))


def test_login_commands() -> None:
    assert login_command("ghcr.io") == "docker login ghcr.io"
    assert GOOGLE in login_command(GOOGLE)
    assert login_command(GOOGLE).startswith("gcloud auth login")
