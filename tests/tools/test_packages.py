from pathlib import Path

import pytest

from tests.tools.conftest import AddProgram
from tools import packages
from tools.packages import PACKAGES, PackagesNotInstalled, install, install_command

REGISTRY = next(package for package in PACKAGES if package.name == "docker-registry")


def ignore(_line: str) -> None:
    """A listener for lines that the test does not look at."""


def test_a_part_from_elsewhere_counts(add_program: AddProgram) -> None:
    mine = add_program("docker-registry", "")
    assert REGISTRY.path() == str(mine)
    assert REGISTRY not in packages.missing()


def test_the_report_says_how_to_get_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packages, "_search_path", lambda: str(tmp_path))
    parts = {part.name: part for part in packages.report()}
    assert parts.keys() == {package.name for package in PACKAGES} - {"chromium"}
    assert not parts["runc"].found
    assert parts["runc"].fix == "sudo apt-get install --no-install-recommends runc"


def test_the_command_names_all_packages() -> None:
    assert install_command(PACKAGES[:2]).endswith(" runc containernetworking-plugins")


def test_installing_asks_nothing_removes_nothing_and_starts_nothing(
    add_program: AddProgram, tmp_path: Path
) -> None:
    log = tmp_path / "apt.log"
    add_program("apt-get", f'echo "$DEBIAN_FRONTEND $RUNLEVEL $@" >> {log}')
    add_program("systemctl", f'echo "systemctl $@" >> {log}')
    install((REGISTRY,), ignore)
    lines = log.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == [
        "noninteractive 1 update",
        "noninteractive 1 install --yes --no-install-recommends --no-remove docker-registry",
    ]
    assert set(lines[2:]) <= {"systemctl disable --now docker-registry"}


def test_old_package_lists_will_do(add_program: AddProgram) -> None:
    add_program("apt-get", '[ "$1" = install ]')
    add_program("systemctl", "")
    install((REGISTRY,), ignore)


def test_a_failed_install_says_why_and_what_to_do(add_program: AddProgram) -> None:
    add_program("apt-get", "echo E: Unable to locate package docker-registry >&2; exit 100")
    with pytest.raises(PackagesNotInstalled) as error:
        install((REGISTRY,), ignore)
    assert str(error.value) == (
        "apt-get could not install docker-registry, which real nodes need: "
        "E: Unable to locate package docker-registry\n"
        "  Fix: sudo apt-get update && sudo apt-get install docker-registry"
    )
