from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from rehearsal.machine import programs
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


def test_without_plugins_there_is_an_empty_folder(users: Path, tmp_path: Path) -> None:
    assert programs.link_plugins(tmp_path / "home") == set()
    assert list((tmp_path / "home" / "plugins").iterdir()) == []


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


def test_a_built_pulumi_gets_a_language_host_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = write(tmp_path, monkeypatch, official=False)
    assert not (home.programs / "pulumi").is_symlink()  # it looks beside what a link leads to
    assert (
        "rehearsal.pulumi.language_host" in (home.programs / "pulumi-language-python").read_text()
    )


def test_an_official_pulumi_is_left_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = write(tmp_path, monkeypatch, official=True)
    assert not (home.programs / "pulumi").exists()
    assert not (home.programs / "pulumi-language-python").exists()


def test_scripts_are_well_formed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = write(tmp_path, monkeypatch, official=False)
    for name in ("skopeo", "pulumi-language-python", "gke-gcloud-auth-plugin"):
        if (home.programs / name).exists():
            subprocess.run(["sh", "-n", str(home.programs / name)], check=True)
