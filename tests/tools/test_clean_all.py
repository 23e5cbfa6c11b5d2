"""`make clean-all` in a copy of the checkout, whose home and caches are the test's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from rehearsal.faults.faults import injected_file
from rehearsal.machine.home import HOME_VARIABLE, Home, prepare
from tests.checkout_copy import copy_checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_checkout(tmp_path / "checkout")


def clean_all(checkout: Path) -> str:
    """Run it, with everything outside the checkout beside it; return what it printed."""
    outside = checkout.parent
    variables = {
        "HOME": outside / "home",
        "XDG_CACHE_HOME": outside / "cache",
        "XDG_STATE_HOME": outside / "state",
        HOME_VARIABLE: outside / "rehearsals" / "own",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        ["make", "clean-all"],
        cwd=checkout,
        env={**os.environ, **{name: str(value) for name, value in variables.items()}},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", "utf-8")


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_symlink() or p.is_file()}


def test_it_removes_what_this_checkout_left_and_nothing_else(checkout: Path) -> None:
    outside = checkout.parent
    write(
        checkout / "data" / "runs" / "a-run" / "run.json",
        outside / "cache" / "uv" / "wheel",
        outside / "home" / ".pulumi" / "credentials.json",
        outside / "home" / "go" / "module",
        injected_file(outside / "rehearsals" / "others"),
    )
    before = files(outside)
    write(
        checkout / "report" / "report.html",
        checkout / "results" / "pulls.csv",
        checkout / ".mypy_cache" / "x",
        outside / "cache" / "pull-study" / "programs" / "etcd",
        injected_file(outside / "rehearsals" / "own"),
    )
    killed = Home(outside / "rehearsals" / "own")
    prepare(killed)
    write(killed.clusters / "a" / "state")
    said = clean_all(checkout)
    assert f"removed {killed.folder}" in said
    assert files(outside) == before - {"checkout/.venv"}
    assert not killed.folder.exists()


def test_without_an_environment_it_says_what_it_cannot_remove(checkout: Path) -> None:
    (checkout / ".venv").unlink()
    record = injected_file(checkout.parent / "rehearsals" / "own")
    write(record)
    assert "make setup clean-all" in clean_all(checkout)
    assert record.exists()
