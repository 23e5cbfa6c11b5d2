"""The question before something costs money or is deleted."""

import sys

import typer

from experiment.errors import Interrupted, PlanError


def confirm(question: str, otherwise: str) -> None:
    """Ask a question on the terminal.

    Args:
        question: to be answered with yes or no.
        otherwise: what holds after a no, such as "nothing was started".

    Raises:
        Interrupted: the answer was no, or Ctrl-C.
        PlanError: stdin is not a terminal.
    """
    if not sys.stdin.isatty():
        raise PlanError(f"Confirmation needed, but stdin is not a terminal; {otherwise}.", "--yes")
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort as error:
        raise Interrupted(f"Interrupted; {otherwise}.") from error
    if not agreed:
        raise Interrupted(f"{otherwise.capitalize()}.")
