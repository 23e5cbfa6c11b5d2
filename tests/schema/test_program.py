"""How every program starts and ends."""

import errno
import os
import sys
from collections.abc import Callable

import pytest
from typer.main import get_group
from typer.testing import CliRunner

import analysis.cli
import experiment.cli.app
import images.cli
import rehearsal.cli
from schema.errors import ExitCode, UserError
from schema.program import run_app

MODULES = {
    "analysis": "analysis.cli",
    "experiment": "experiment.cli.app",
    "images": "images.cli",
    "rehearsal": "rehearsal.cli",
}
APPS = {
    "analysis": analysis.cli.app,
    "experiment": experiment.cli.app.app,
    "images": images.cli.app,
    "rehearsal": rehearsal.cli.app,
}
COMMANDS = [
    f"{name} {command}" for name, app in APPS.items() for command in get_group(app).commands
]
PROGRAMS = pytest.mark.parametrize("program", sorted(APPS))


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("experiment", ["run", "--budget-usd"]),
        ("experiment", ["run", "--speed"]),
        ("experiment", ["run", "--scale"]),
        ("images", ["build", "--scale"]),
        ("rehearsal", ["shell", "--speed"]),
    ],
)
def test_what_is_no_number_is_refused(program: str, arguments: list[str], number: str) -> None:
    done = CliRunner().invoke(APPS[program], [*arguments, number])
    assert done.exit_code == ExitCode.USAGE
    assert f"Invalid value for '{arguments[-1]}'" in done.output


@PROGRAMS
def test_every_command_has_h_beside_help_and_a_version(program: str) -> None:
    app = APPS[program]
    for command in get_group(app).commands:
        done = CliRunner().invoke(app, [command, "-h"])
        assert done.exit_code == 0, (command, done.output)
        assert "Usage:" in done.output
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.output) == (0, "pull-study 0.1.0\n")


def ended(capsys: pytest.CaptureFixture[str], fail: Callable[[], None]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as end:
        run_app(fail)
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UserError("It is wrong.", "do this"), 2, "Error: It is wrong.\n  Fix: do this\n"),
        (MemoryError(), 2, "Error: There is not enough memory."),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "The output cannot be used: No sp"),
        (OSError(errno.EMFILE, "Too many open files", "/x"), 2, "/x cannot be used: Too many"),
        (OSError(errno.EACCES, "Permission denied", "/x"), 2, "/x cannot be used: Permission"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), 2, "/x cannot be used: Read-only"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000), 2, "... (5000 characters)"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0, ""),
        (SystemExit(7), 7, ""),
    ],
)
def test_an_error_becomes_a_sentence_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, sentence: str
) -> None:
    def fail() -> None:
        raise error

    found, text = ended(capsys, fail)
    assert found == code
    assert sentence in text
    assert len(text) < 400


def test_a_mistake_of_the_program_keeps_its_traceback() -> None:
    def fail() -> None:
        raise OSError(errno.ENOENT, "No such file or directory", "x")

    with pytest.raises(FileNotFoundError):
        run_app(fail)


@PROGRAMS
@pytest.mark.parametrize("stream", ["/dev/full", "closed"])
def test_output_that_cannot_be_written_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str, stream: str
) -> None:
    main: Callable[[], None] = sys.modules[MODULES[program]].main
    monkeypatch.setattr(sys, "argv", [program, "--version"])
    monkeypatch.setattr("images.cli.signal.signal", lambda *_: None)
    with open(stream if stream != "closed" else os.devnull, "w") as file:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", file if stream != "closed" else None)
        with pytest.raises(SystemExit) as end:
            main()
    error = capsys.readouterr().err
    if stream == "closed":
        assert (end.value.code, error) == (ExitCode.OK, "")
    else:
        assert end.value.code == ExitCode.USAGE
        assert "Fix: df -h" in error
