import os
import runpy
import sys

import pytest

from schema.errors import UserError
from tools import build, environment, packages, setup
from tools.environment import ROOT


def test_an_old_python_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    with pytest.raises(SystemExit, match=r"needs 3\.11 or later\.\n.*make setup PYTHON="):
        runpy.run_path(str(ROOT / "tools" / "__main__.py"))


def test_an_error_ends_setup_with_its_sentence_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_say: object) -> None:
        raise UserError("The disk is full.", "free some")

    monkeypatch.setattr(environment, "make", fail)
    assert setup.main() == UserError.exit_code
    assert capsys.readouterr().err == "The disk is full.\n  Fix: free some\n"


@pytest.mark.usefixtures("add_program")
def test_without_root_the_missing_packages_are_listed_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "make", lambda _say: None)
    monkeypatch.setattr(build, "missing", lambda **_: ())
    monkeypatch.setattr(packages, "missing", lambda **_: packages.PACKAGES[:2])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert setup.main() == 0
    assert capsys.readouterr().out.endswith(
        "setup: Missing for real nodes, the local registry or tests: runc, "
        "containernetworking-plugins; to install: "
        "sudo apt-get install --no-install-recommends runc containernetworking-plugins\n"
    )
