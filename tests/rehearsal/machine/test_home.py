from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from rehearsal.machine.home import (
    HOME_VARIABLE,
    Home,
    RehearsalError,
    default_home,
    is_locked,
    lock,
    prepare,
    read_json,
    write_json,
)


def test_the_environment_names_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    assert default_home() == Home(tmp_path)


def test_root_s_home_is_short_and_a_user_s_is_the_user_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_home().folder == Path("/var/lib/pull-study/rehearsal")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/state")
    assert default_home().folder == Path("/home/u/state/pull-study/rehearsal")


def test_a_folder_with_files_of_somebody_is_refused_and_left(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RehearsalError, match="no rehearsal made"):
        prepare(Home(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_and_an_earlier_home_are_accepted(tmp_path: Path) -> None:
    prepare(Home(tmp_path))
    (tmp_path / "clusters").mkdir()
    prepare(Home(tmp_path))


def test_a_home_that_cannot_be_made_is_a_user_s_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RehearsalError, match="cannot be used: Not a directory"):
        prepare(Home(tmp_path / "file" / "home"))


def test_one_process_at_a_time_has_the_lock(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert not is_locked(home)
    first = lock(home)
    assert first is not None
    assert is_locked(home)
    assert lock(home) is None
    os.close(first)
    assert not is_locked(home)
    second = lock(home)
    assert second is not None
    os.close(second)


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


def test_what_is_written_is_read_and_for_this_user_s_eyes(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    assert read_json(path) is None
    write_json(path, {"pid": 7})
    assert read_json(path) == {"pid": 7}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("{half")
    assert read_json(path) is None


def test_homes_have_control_groups_of_their_own() -> None:
    one, other = Home(Path("/a")), Home(Path("/b"))
    assert one.control_group != other.control_group
    assert one.control_group == Home(Path("/a")).control_group


def test_another_user_s_home_is_a_user_s_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RehearsalError, match="cannot be used: Permission denied"):
        is_locked(Home(tmp_path))
