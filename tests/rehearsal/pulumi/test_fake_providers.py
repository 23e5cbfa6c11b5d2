import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rehearsal.machine.home import RehearsalError
from rehearsal.pulumi import fake_providers
from rehearsal.pulumi.fake_providers import provider_variables
from tests.infra.stack_files import ROOT

pytestmark = pytest.mark.live


def _ports(variables: dict[str, str]) -> dict[str, int]:
    served = variables["PULUMI_DEBUG_PROVIDERS"].split(",")
    return {name: int(port) for name, _, port in (each.partition(":") for each in served)}


def test_serves_both_fakes_while_the_block_lasts() -> None:
    with provider_variables() as variables:
        ports = _ports(variables)
        assert set(ports) == {"gcp", "kubernetes"}
        assert all(map(_listens, ports.values()))
        assert (Path(variables["PATH"].partition(os.pathsep)[0]) / "pulumi").is_file()
    assert not any(map(_listens, ports.values()))


def _listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def test_an_official_plugin_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"kubernetes": Path("/plugins/kubernetes")}
    monkeypatch.setattr(fake_providers, "official_plugin", found.get)
    with provider_variables() as variables:
        assert set(_ports(variables)) == {"gcp"}


def test_with_both_plugins_nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_providers, "official_plugin", lambda name: Path("/plugins") / name)
    with provider_variables() as variables:
        assert set(variables) == {"PATH"}


def test_fakes_that_do_not_start_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RehearsalError, match="did not start"), provider_variables():
        pass


def test_the_command_returns_its_commands_exit_code() -> None:
    shell = ["sh", "-c", 'test -n "$PULUMI_DEBUG_PROVIDERS" && exit 7']
    done = subprocess.run(
        [sys.executable, "-m", "rehearsal", "providers", "--", *shell],
        cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 7
