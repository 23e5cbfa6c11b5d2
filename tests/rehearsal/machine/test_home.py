from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from rehearsal.machine import processes
from rehearsal.machine.home import (
    HOME_VARIABLE,
    Home,
    RehearsalError,
    clear,
    default_home,
    is_locked,
    lock,
    mounts_below,
    prepare,
    read_json,
    write_json,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")


def test_root_s_home_is_short_and_a_user_s_is_the_user_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    own = default_home().folder.name
    assert default_home().folder == Path("/var/lib/pull-study") / own
    assert len(own) == 8, "containerd's sockets have short paths"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/state")
    assert default_home().folder == Path("/home/u/state/pull-study") / own


def test_two_checkouts_have_two_homes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    first = default_home()
    monkeypatch.setattr("rehearsal.machine.home._CHECKOUT", Path("/home/u/other/clone"))
    assert default_home() != first
    assert default_home().control_group != first.control_group


def test_a_folder_with_other_files_is_refused_and_left(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RehearsalError, match="no rehearsal made"):
        prepare(Home(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_home_that_cannot_be_made_is_a_user_s_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RehearsalError, match="cannot be used: Not a directory"):
        prepare(Home(tmp_path / "file" / "home"))


def test_a_lock_on_a_folder_that_was_removed_holds_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    first = lock(home)
    assert first is not None
    shutil.rmtree(home.folder)
    second = lock(home)
    assert second is not None
    os.close(first)
    assert is_locked(home)
    os.close(second)


def test_what_is_written_is_read_back_and_has_mode_0600(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    assert read_json(path) is None
    write_json(path, {"pid": 7})
    assert read_json(path) == {"pid": 7}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("{half")
    assert read_json(path) is None


def test_another_user_s_home_is_a_user_s_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RehearsalError, match="cannot be used: Permission denied"):
        is_locked(Home(tmp_path))


MOUNTS = r"""
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 21 0:5 / /h/clusters/a\040b/kubelet rw - ext4 /dev/vda rw
23 21 0:6 / /h rw - tmpfs tmpfs rw
24 21 0:7 / /home rw - tmpfs tmpfs rw
""".strip()


@pytest.fixture
def used(tmp_path: Path) -> Home:
    used = Home(tmp_path / "pull-study" / "home")
    descriptor = lock(used)
    assert descriptor is not None
    os.close(descriptor)
    (used.clusters / "one").mkdir(parents=True)
    (used.clusters / "one" / "file").touch()
    (used.folder / "link").symlink_to(tmp_path)
    return used


def test_mounts_at_and_below_a_folder_are_found() -> None:
    assert mounts_below(Path("/h"), MOUNTS) == [Path("/h/clusters/a b/kubelet"), Path("/h")]


def test_a_home_is_removed_with_its_processes_and_what_a_link_points_to_stays(
    used: Home, tmp_path: Path
) -> None:
    process = processes.start(["sleep", "100"], used.clusters / "one", log=used.log)
    clear(used)
    assert process.wait(1) != 0
    assert list(tmp_path.iterdir()) == []


def test_other_files_beside_a_home_stay(used: Home) -> None:
    (used.folder.parent / "other").touch()
    clear(used)
    assert [path.name for path in used.folder.parent.iterdir()] == ["other"]


def test_what_cannot_be_removed_is_reported(used: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: Path) -> None:
        raise processes.StillRunningError("processes [7] of /h did not end")

    monkeypatch.setattr(processes, "stop", stop)
    with pytest.raises(RehearsalError, match=r"could not be removed entirely: processes \[7\]"):
        clear(used)


class TestAHomeThatOthersCouldWrite:
    """They would replace programs, which are then run."""

    @needs_root
    def test_is_refused_if_it_is_another_user_s(self, used: Home) -> None:
        os.chown(used.folder, 65534, 65534)
        before = used.mark.stat().st_mtime_ns
        for action in (prepare, is_locked):
            with pytest.raises(RehearsalError, match="belongs to user 65534"):
                action(used)
        assert used.mark.stat().st_mtime_ns == before

    def test_is_refused_if_anybody_may_write_it_or_replace_it(self, used: Home) -> None:
        for folder in (used.folder, used.folder.parent):
            folder.chmod(0o777)
            with pytest.raises(RehearsalError, match=f"{folder} can be written by other users"):
                prepare(used)
            folder.chmod(0o755)
        used.folder.parent.chmod(0o1777)
        prepare(used)

    def test_is_refused_if_it_is_a_link(self, used: Home, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(used.folder)
        with pytest.raises(RehearsalError, match="is a link"):
            prepare(Home(link))

    def test_is_closed_to_others_if_it_was_readable(self, used: Home) -> None:
        used.folder.chmod(0o755)
        prepare(used)
        assert used.folder.stat().st_mode & 0o777 == 0o700
