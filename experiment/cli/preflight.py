"""`python -m experiment preflight`: the checks of a run, printed."""

import json
from dataclasses import asdict
from typing import Any

import typer

from experiment.errors import worst
from experiment.plan.open_run import clusters, resolve_trials
from experiment.plan.request import NewRuns
from experiment.preflight.checks import check_together, examine
from experiment.preflight.findings import exit_code_of, findings_table
from experiment.terminal.views import make_console
from schema.errors import ExitCode
from schema.study import Study


def show_preflight(new: NewRuns, study: Study, *, parallel: int, as_json: bool) -> int:
    """Carry out the checks of runs and print them; return the exit code.

    Args:
        new: the runs.
        study: of all of them.
        parallel: number of clusters at the same time.
        as_json: print JSON.

    Raises:
        UserError: a stack is not valid, or an image cannot be read.
    """
    trials = resolve_trials(study, new.seed or 0)
    console, code = make_console(), int(ExitCode.OK)
    shown: dict[str, list[dict[str, Any]]] = {}
    where = clusters(new)
    checks = {name: examine(trials, cluster) for name, cluster in where.items()}
    if parallel > 1:
        checks[f"{parallel} at the same time"] = check_together(list(where.values()), parallel)
    for name, each in checks.items():
        findings = list(each)
        if as_json:
            shown[name] = [asdict(finding) for finding in findings]
        else:
            console.print(findings_table(findings, f"Preflight of {name}, {study.name}"))
        code = worst([code, exit_code_of(findings)])
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
    return code
