from __future__ import annotations

import json
import stat
import subprocess
import time
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pytest

from rehearsal.machine import programs, tokens
from rehearsal.machine.home import Home
from tools.programs import Located, locate


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder of Pulumi."""
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "users"))
    return tmp_path / "users"


def install(users: Path, name: str, plugin_version: str) -> Path:
    folder = users / "plugins" / f"resource-{name}-v{plugin_version}"
    folder.mkdir(parents=True)
    (folder / f"pulumi-resource-{name}").touch()
    return folder


def test_official_plugins_of_the_sdk_s_version_are_linked(users: Path, tmp_path: Path) -> None:
    folder = install(users, "gcp", version("pulumi-gcp"))
    install(users, "kubernetes", "1.0.0")
    assert programs.link_plugins(tmp_path / "home") == {"gcp"}
    (own,) = (tmp_path / "home" / "plugins").iterdir()
    assert (own.name, own.is_symlink()) == (folder.name, False)
    assert (own / "pulumi-resource-gcp").resolve() == folder / "pulumi-resource-gcp"


@pytest.mark.live
def test_pulumi_finds_a_linked_plugin(users: Path, tmp_path: Path) -> None:
    """It skips a folder that is a link, and a rehearsal failed where official plugins were."""
    install(users, "gcp", version("pulumi-gcp"))
    programs.link_plugins(tmp_path / "home")
    listed = subprocess.run(
        [locate("pulumi").path, "plugin", "ls", "--json"],
        env={"PATH": "/usr/bin:/bin", "PULUMI_HOME": str(tmp_path / "home")},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    (found,) = json.loads(listed.stdout)
    assert (found["name"], found["version"]) == ("gcp", version("pulumi-gcp"))


def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, official: bool) -> Home:
    folder = tmp_path / "pulumi"
    folder.mkdir()
    (folder / "pulumi").write_text("#!/bin/sh\necho $0")
    if official:
        (folder / "pulumi-language-python").touch()
    found = Located("pulumi", folder / "pulumi", "3.259.0", "PATH")
    monkeypatch.setattr(programs, "locate", lambda _: found)
    home = Home(tmp_path / "home")
    home.folder.mkdir()
    programs.write_programs(home)
    return home


@pytest.mark.parametrize("official", [False, True])
def test_a_built_pulumi_gets_a_language_host_and_an_official_one_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, official: bool
) -> None:
    home = write(tmp_path, monkeypatch, official=official)
    host = home.programs / "pulumi-language-python"
    assert (home.programs / "pulumi").exists() is host.exists() is not official
    if not official:
        assert not (home.programs / "pulumi").is_symlink()  # it looks beside the link's target
        assert "rehearsal.pulumi.language_host" in host.read_text()
    for name in ("skopeo", host.name, programs.AUTH_PLUGIN):
        if (home.programs / name).exists():
            subprocess.run(["sh", "-n", str(home.programs / name)], check=True)


@pytest.mark.parametrize("api_version", ["v1", "v1beta1"])
def test_the_auth_plugin_answers_in_the_requested_version(tmp_path: Path, api_version: str) -> None:
    home = Home(tmp_path)
    programs.write_plugin(home)
    api = f"client.authentication.k8s.io/{api_version}"
    request = json.dumps(
        {"kind": "ExecCredential", "apiVersion": api, "spec": {}}, separators=(",", ":")
    )
    done = subprocess.run(
        [home.programs / programs.AUTH_PLUGIN, "--use_application_default_credentials"],
        env={"KUBERNETES_EXEC_INFO": request},
        capture_output=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert (answer["kind"], answer["apiVersion"]) == ("ExecCredential", api)
    secret, ends_at = home.token_secret.read_text(), answer["status"]["expirationTimestamp"]
    end = datetime.fromisoformat(ends_at).timestamp()
    assert end - time.time() + 2 >= tokens.OVERLAP_S
    assert end - time.time() <= tokens.LAST_S + tokens.OVERLAP_S
    assert tokens.is_valid(answer["status"]["token"], secret, end - 1)
    assert not tokens.is_valid(answer["status"]["token"], secret, end)
    assert not tokens.is_valid(answer["status"]["token"], "another", end - 1)


def test_the_auth_plugin_without_its_argument_has_no_login(tmp_path: Path) -> None:
    home = Home(tmp_path)
    programs.write_plugin(home)
    done = subprocess.run(
        [home.programs / programs.AUTH_PLUGIN], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "no gcloud account is logged in" in done.stderr


def test_the_token_is_new_each_time_and_only_this_user_reads_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    programs.write_plugin(home)
    first = home.token_secret.read_text()
    programs.write_plugin(home)
    assert home.token_secret.read_text() != first
    for path in (home.token_secret, home.programs / programs.AUTH_PLUGIN):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
