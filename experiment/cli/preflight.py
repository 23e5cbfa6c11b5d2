"""`pull-study preflight`: the checks of a run, printed."""

from dataclasses import asdict

from experiment.errors import worst
from experiment.plan.open_run import clusters, own_names, resolve_trials
from experiment.plan.request import NewRuns
from experiment.preflight.checks import check_together, examine
from experiment.preflight.findings import exit_code_of, findings_table
from experiment.terminal.views import make_console
from schema.errors import ExitCode
from schema.output import Output, OutputRow, print_rows
from schema.study import Study


def show_preflight(new: NewRuns, study: Study, *, parallel: int, output: Output) -> int:
    """Carry out the checks of runs and print them; return the exit code.

    Args:
        new: the runs.
        study: of all of them.
        parallel: number of clusters at the same time.
        output: the form.

    Raises:
        UserError: a stack is not valid, or an image cannot be read.
    """
    trials = resolve_trials(study, new.seed or 0)
    console, code = make_console(), int(ExitCode.OK)
    rows: list[OutputRow] = []
    where = clusters(new)
    checks = {name: examine(own_names(trials, cluster), cluster) for name, cluster in where.items()}
    if parallel > 1:
        checks[f"{parallel} at the same time"] = check_together(list(where.values()), parallel)
    for name, each in checks.items():
        findings = list(each)
        rows += [{"of": name, **asdict(finding)} for finding in findings]
        if output is Output.TABLE:
            console.print(findings_table(findings, f"Preflight of {name}, {study.name}"))
        code = worst([code, exit_code_of(findings)])
    if output is not Output.TABLE:
        print_rows(output, rows)
    return code
