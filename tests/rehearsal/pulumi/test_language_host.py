"""The language host, alone and under the literal Pulumi CLI."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc

from rehearsal.pulumi.language_host import PROGRAM_NAME, install
from tools.programs import locate


def test_install_writes_a_launcher_of_the_interpreter(tmp_path: Path) -> None:
    launcher = install(tmp_path, Path(sys.executable))
    assert launcher == tmp_path / PROGRAM_NAME
    assert os.access(launcher, os.X_OK)
    assert sys.executable in launcher.read_text()
    assert install(tmp_path, Path("/other/python")) == launcher
    assert "/other/python" in launcher.read_text()


def test_install_leaves_an_official_host_alone(tmp_path: Path) -> None:
    official = tmp_path / PROGRAM_NAME
    official.write_bytes(b"\x7fELF official")
    assert install(tmp_path, Path(sys.executable)) is None
    assert official.read_bytes() == b"\x7fELF official"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    launcher = install(tmp_path, Path(sys.executable))
    assert launcher is not None
    process = subprocess.Popen([launcher, "127.0.0.1:1"], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_it_answers_on_the_port_that_it_prints_and_ends_on_sigint(
    host: subprocess.Popen[str],
) -> None:
    assert host.stdout is not None
    port = int(host.stdout.readline())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = language_pb2_grpc.LanguageRuntimeStub(channel)
        stub.Handshake(language_pb2.LanguageHandshakeRequest())
        assert stub.GetPluginInfo(empty_pb2.Empty()).version == "3.259.0"
        assert stub.About(language_pb2.AboutRequest()).executable == sys.executable
        packages = stub.GetRequiredPackages(language_pb2.GetRequiredPackagesRequest())
        assert not packages.packages
        found = stub.GetProgramDependencies(language_pb2.GetProgramDependenciesRequest())
        assert "pulumi-gcp" in {each.name for each in found.dependencies}
        (said,) = stub.InstallDependencies(language_pb2.InstallDependenciesRequest())
        assert b"make setup" in said.stdout
    begun = time.monotonic()
    host.send_signal(signal.SIGINT)
    assert host.wait(timeout=10) == 0
    assert time.monotonic() - begun < 3


class Cli:
    """The Pulumi CLI on a project whose program is in infra/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs, state = folder / "programs", folder / "state"
        for each in (programs, state, folder / "infra"):
            each.mkdir()
        # The CLI looks for a host beside its own binary, so a symlink would not do.
        binary = locate("pulumi").path.resolve()
        try:
            (programs / "pulumi").hardlink_to(binary)
        except OSError:  # another file system
            shutil.copy2(binary, programs / "pulumi")
        install(programs, Path(sys.executable))
        (folder / "Pulumi.yaml").write_text("name: t\nruntime: python\nmain: infra/\n")
        self._environment = {
            **os.environ,
            "PATH": f"{programs}:/usr/bin:/bin",
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
        said = process.communicate(timeout=120)[0]
        return process.returncode, said


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    cli = Cli(tmp_path_factory.mktemp("project"))
    cli.write("")
    code, said = cli.run("stack", "init", "size-4")
    assert code == 0, said
    return cli


@pytest.mark.live
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
    begun = time.monotonic()
    code, said = cli.run("up", "--yes", "--skip-preview")
    seconds = time.monotonic() - begun
    assert code == 0, said
    assert "the program speaks" in said
    assert "secret-word" not in said
    assert seconds < 9  # a host that does not end on SIGINT costs 10 s more
    outputs = cli.run("stack", "output")[1]
    for expected in ("hello", "size-4", "infra", sys.executable):
        assert expected in outputs


@pytest.mark.live
def test_preview_is_a_dry_run(cli: Cli) -> None:
    cli.write("import pulumi\npulumi.log.info(f'dry: {pulumi.runtime.is_dry_run()}')\n")
    code, said = cli.run("preview")
    assert code == 0, said
    assert "dry: True" in said


@pytest.mark.live
@pytest.mark.parametrize(
    ("program", "said", "unsaid"),
    [
        (
            "import pulumi\nraise pulumi.RunError('nodeCount is 0')\n",
            "error: nodeCount is 0", "Traceback",
        ),
        ("1 / 0\n", "ZeroDivisionError: division by zero", "ended with exit code"),
        ("import os\nos._exit(7)\n", "The program ended with exit code 7.", "Traceback"),
    ],
)  # fmt: skip
def test_a_program_that_fails_says_why(cli: Cli, program: str, said: str, unsaid: str) -> None:
    cli.write(program)
    code, output = cli.run("preview")
    assert code != 0
    assert said in output
    assert unsaid not in output


@pytest.mark.live
def test_ctrl_c_ends_a_program_that_hangs(cli: Cli) -> None:
    started = cli.folder / "started"
    cli.write(f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\ntime.sleep(90)\n")
    process: Any = cli.start("preview")
    deadline = time.monotonic() + 60
    while not started.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert time.monotonic() - begun < 20
