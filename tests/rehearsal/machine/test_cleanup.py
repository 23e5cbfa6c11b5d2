from __future__ import annotations

import os
from pathlib import Path

import pytest

from rehearsal.machine import processes
from rehearsal.machine.home import Home, RehearsalError, clear, lock, mounts_below

MOUNTS = r"""
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 21 0:5 / /h/clusters/a\040b/kubelet rw - ext4 /dev/vda rw
23 21 0:6 / /h rw - tmpfs tmpfs rw
24 21 0:7 / /home rw - tmpfs tmpfs rw
""".strip()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "pull-study" / "home")
    descriptor = lock(home)
    assert descriptor is not None
    os.close(descriptor)
    (home.clusters / "one").mkdir(parents=True)
    (home.clusters / "one" / "file").touch()
    (home.folder / "link").symlink_to(tmp_path)
    return home


def test_mounts_at_and_below_a_folder_are_found() -> None:
    assert mounts_below(Path("/h"), MOUNTS) == [Path("/h/clusters/a b/kubelet"), Path("/h")]


def test_a_home_goes_with_its_processes_and_what_a_link_leads_to_stays(
    home: Home, tmp_path: Path
) -> None:
    process = processes.start(["sleep", "100"], home.clusters / "one", log=home.log)
    clear(home)
    assert process.wait(1) != 0
    assert list(tmp_path.iterdir()) == []


def test_a_home_can_be_emptied_and_stay_a_home(home: Home) -> None:
    clear(home, whole=False)
    assert list(home.folder.iterdir()) == [home.mark]


def test_other_files_beside_a_home_stay(home: Home) -> None:
    (home.folder.parent / "other").touch()
    clear(home)
    assert [path.name for path in home.folder.parent.iterdir()] == ["other"]


def test_what_does_not_go_is_said(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: Path) -> None:
        raise processes.StillRunningError("processes [7] of /h did not end")

    monkeypatch.setattr(processes, "stop", stop)
    with pytest.raises(RehearsalError, match=r"could not be removed entirely: processes \[7\]"):
        clear(home)
