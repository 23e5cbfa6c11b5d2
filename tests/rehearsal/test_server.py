from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rehearsal import server
from rehearsal.machine import processes
from rehearsal.machine.home import Home, RehearsalError


def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> dict[str, int]:
    """Start a script in the place of the providers' fakes; return the ports that are read."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    try:
        return server._start_providers(Home(tmp_path), set(), {})()
    finally:
        processes.stop(tmp_path)


def test_warnings_of_the_providers_do_not_hide_their_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """echo 'DeprecationWarning: old' >&2; echo '{"gcp": 1}'; exec sleep 100"""
    assert start(tmp_path, monkeypatch, script) == {"gcp": 1}


def test_providers_that_do_not_start_are_reported_with_their_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RehearsalError, match="did not start: ImportError: no grpc"):
        start(tmp_path, monkeypatch, "echo 'ImportError: no grpc' >&2")
