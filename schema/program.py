"""What the four programs share on the command line: -h, --version, -v, and how they end.

Every program ends with an exit code of schema.errors and one sentence, whatever the state of its
streams, its disk and its memory. A traceback is for our own mistakes.
"""

import errno
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer

from schema.errors import ExitCode, UserError, shortened
from schema.inert import visible
from schema.logs import LOG_LEVEL_VARIABLE, LogLevel, start_logging

_OF_THE_MACHINE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EBADF, errno.EMFILE),
    *(errno.ENAMETOOLONG, errno.EACCES, errno.EPERM),
}
"""Errors that any file can meet, and that are no mistake of a program."""
_PULL_STUDY = "pull-study"


def make_app(text: str, **settings: Any) -> typer.Typer:
    """Return a program without commands, with the options that every program has.

    A program with options of its own before the command replaces the callback, and calls `common`.

    Args:
        text: the first sentence of its help.
        settings: more arguments of typer.Typer.
    """
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help=text,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )
    app.callback()(common)
    return app


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"{_PULL_STUDY} {version(_PULL_STUDY)}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Show requests, retries and started programs: --log-level debug."
    ),
]
Level = Annotated[
    LogLevel,
    typer.Option(
        "--log-level", envvar=LOG_LEVEL_VARIABLE, help="Least severe lines on standard error."
    ),
]


def common(
    *, version: Version = False, verbose: Verbose = False, log_level: Level = LogLevel.WARNING
) -> None:
    """Options before the command."""
    del version
    start_logging(LogLevel.DEBUG if verbose else log_level)


def finite(value: float | None) -> float | None:
    """Return an option's number (its callback).

    Raises:
        typer.BadParameter: it is `nan` or `inf`.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a number to calculate with.")
    return value


def run_app(app: Callable[[], object]) -> NoReturn:
    """Run a program and exit; each error becomes its message and exit code."""
    _open_closed_streams()
    code: Any = ExitCode.OK
    try:
        app()
    except SystemExit as end:
        code = end.code
    except UserError as error:
        code = _failed(error)
    except BrokenPipeError:
        code = ExitCode.OK  # `| head` has read enough
    except MemoryError:
        code = _failed(UserError("There is not enough memory.", "ulimit -v unlimited; free -m"))
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        code = _failed(
            UserError(
                f"{shortened(error.filename or 'The output')} cannot be used: {error.strerror}.",
                "df -h; df -i; ls -l; ulimit -n",
            )
        )
    finally:
        flushed = _flush_stdout()
    if not flushed and code in {None, ExitCode.OK}:
        code = _failed(UserError("The output cannot be written.", "df -h; df -i"))
    sys.exit(code)


def _failed(error: UserError) -> ExitCode:
    """Print an error; return its exit code."""
    name = getattr(error, "failure", None)
    with suppress(OSError, ValueError):
        text = f"Error{f' ({name})' if name else ''}: {error}"
        sys.stderr.write(visible(text, keep="\n\t") + "\n")
        sys.stderr.flush()
    return error.exit_code


def _open_closed_streams() -> None:
    """Replace streams closed by the caller, which are None, by /dev/null."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


def _flush_stdout() -> bool:
    """Flush now, so that the interpreter cannot fail to at exit; False if output was lost.

    A reader that has gone, as `| head`, loses nothing.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return isinstance(error, BrokenPipeError)
    return True
