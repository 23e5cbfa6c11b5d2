"""The language host under the Pulumi CLI."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from rehearsal.machine.programs import write_pulumi
from tests.live.listeners import Listener, answers_to_nobody
from tests.until import until
from tools.programs import locate

pytestmark = pytest.mark.live


class Cli:
    """The Pulumi CLI on a project whose program is in infra/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs, state = folder / "programs", folder / "state"
        for each in (programs, state, folder / "infra"):
            each.mkdir()
        write_pulumi(programs)
        (folder / "Pulumi.yaml").write_text("name: t\nruntime: python\nmain: infra/\n")
        self._environment = {
            **os.environ,
            "PATH": f"{programs}:{locate('pulumi').path.parent}:/usr/bin:/bin",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{state}",
            "PULUMI_CONFIG_PASSPHRASE": "",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }

    def write(self, program: str) -> None:
        (self.folder / "infra" / "__main__.py").write_text(program)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["pulumi", "--non-interactive", *arguments],
            cwd=self.folder, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output."""
        process = self.start(*arguments)
        output = process.communicate(timeout=120)[0]
        return process.returncode, output


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    cli = Cli(tmp_path_factory.mktemp("project"))
    cli.write("")
    code, output = cli.run("stack", "init", "size-4")
    assert code == 0, output
    return cli


def test_up_runs_the_program_with_its_configuration(cli: Cli) -> None:
    cli.write(
        "import os, sys\nimport pulumi\nimport schema.errors\n"
        "config = pulumi.Config()\n"
        "print('the program speaks')\n"
        "pulumi.export('greeting', config.require('greeting'))\n"
        "pulumi.export('hidden', config.require_secret('hidden'))\n"
        "pulumi.export('stack', pulumi.get_stack())\n"
        "pulumi.export('folder', os.path.basename(os.getcwd()))\n"
        "pulumi.export('python', sys.executable)\n"
    )
    assert cli.run("config", "set", "greeting", "hello")[0] == 0
    assert cli.run("config", "set", "--secret", "hidden", "secret-word")[0] == 0
    begin = time.monotonic()
    code, output = cli.run("up", "--yes", "--skip-preview")
    seconds = time.monotonic() - begin
    assert code == 0, output
    assert "the program speaks" in output
    assert "secret-word" not in output
    assert "not implemented" not in output.lower()
    assert seconds < 9  # a host that does not end on SIGINT costs 10 s more
    outputs = cli.run("stack", "output")[1]
    for expected in ("hello", "size-4", "infra", sys.executable):
        assert expected in outputs


def test_preview_is_a_dry_run(cli: Cli) -> None:
    cli.write("import pulumi\npulumi.log.info(f'dry: {pulumi.runtime.is_dry_run()}')\n")
    code, output = cli.run("preview")
    assert code == 0, output
    assert "dry: True" in output


@pytest.mark.parametrize(
    ("program", "shown", "hidden"),
    [
        (
            "import pulumi\nraise pulumi.RunError('nodeCount is 0')\n",
            "error: nodeCount is 0", "Traceback",
        ),
        ("1 / 0\n", "ZeroDivisionError: division by zero", "ended with exit code"),
        ("import os\nos._exit(7)\n", "The program ended with exit code 7.", "Traceback"),
    ],
)  # fmt: skip
def test_a_program_that_fails_shows_why(cli: Cli, program: str, shown: str, hidden: str) -> None:
    cli.write(program)
    code, output = cli.run("preview")
    assert code != 0
    assert shown in output
    assert hidden not in output


def test_ctrl_c_ends_a_program_that_hangs(cli: Cli) -> None:
    started = cli.folder / "started"
    cli.write(f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\ntime.sleep(90)\n")
    process: Any = cli.start("preview")
    until(started.exists, 60, "the program starts")
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert time.monotonic() - begin < 20


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become nobody")
def test_another_user_cannot_have_a_program_run() -> None:
    command = [sys.executable, "-m", "rehearsal.pulumi.language_host", "127.0.0.1:1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        try:
            assert host.stdout
            address = f"127.0.0.1:{int(host.stdout.readline())}"
            assert answers_to_nobody([Listener("tcp", address, "host")]) == {address: []}
            with grpc.insecure_channel(address) as channel:
                answer: Any = channel.unary_unary("/pulumirpc.LanguageRuntime/GetPluginInfo")
                assert answer(b"", timeout=5)
        finally:
            host.terminate()
