import ast
from pathlib import Path
from typing import Any

import pytest

from experiment.collect.cloud_logging import LATE_ENTRIES_S
from experiment.errors import (
    CATALOGUE,
    BudgetError,
    Failure,
    Interrupted,
    PreflightError,
    ProvisionError,
    TeardownError,
    cell_failure,
    ledger_exit_code,
    registry_failure,
    worst,
)
from schema.errors import ExitCode
from schema.run_records import CellRecord, Status
from tests.experiment.cells import cell

ROOT = Path(__file__).parents[2]
PACKAGES = ("analysis", "experiment", "images", "infra", "rehearsal", "tools")


def excluded(status: Status, reason: str = "because") -> CellRecord:
    return cell(status=status, reason=reason)


def test_every_failure_has_an_exit_code_of_its_own_a_retry_and_a_fix() -> None:
    assert set(CATALOGUE) == set(Failure)
    codes = [entry.exit_code for entry in CATALOGUE.values()]
    assert len(set(codes)) == len(codes)
    for entry in CATALOGUE.values():
        assert entry.retried
        assert entry.fix
        assert entry.meaning.endswith(".")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProvisionError("x"), ExitCode.PROVISION),
        (ProvisionError("x", failure=Failure.QUOTA), ExitCode.QUOTA),
        (PreflightError("x", failure=Failure.API_OFF), ExitCode.API_OFF),
        (TeardownError("x"), ExitCode.TEARDOWN),
        (BudgetError("x"), ExitCode.BUDGET),
        (Interrupted("x"), ExitCode.INTERRUPTED),
    ],
)
def test_a_failure_decides_the_exit_code(error: Any, code: ExitCode) -> None:
    assert error.exit_code is code


def test_a_failures_fix_is_the_default() -> None:
    assert ProvisionError("x", failure=Failure.QUOTA).fix == CATALOGUE[Failure.QUOTA].fix
    assert ProvisionError("x", "do this", failure=Failure.QUOTA).fix == "do this"


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("manifest unknown", Failure.IMAGE_MISSING),
        ('failed to resolve reference "ghcr.io/a/b:c": ghcr.io/a/b:c: not found', "image missing"),
        ("toomanyrequests: You have reached your pull rate limit", Failure.REGISTRY_THROTTLED),
        ("unexpected status code 429 Too Many Requests", Failure.REGISTRY_THROTTLED),
        ("unauthorized: authentication required", Failure.PERMISSION),
        ("denied: requested access to the resource is denied", Failure.PERMISSION),
        ("connection refused", None),
    ],
)
def test_answers_of_registries_are_recognised(text: str, failure: Failure | None) -> None:
    assert registry_failure(text) == failure


@pytest.mark.parametrize(
    ("found", "failure"),
    [
        (excluded(Status.NODE_LOST), Failure.NODE_LOST),
        (excluded(Status.EVICTED), Failure.EVICTED),
        (excluded(Status.DISK_PRESSURE), Failure.DISK_PRESSURE),
        (excluded(Status.FAILED, "ErrImagePull: manifest unknown"), Failure.IMAGE_MISSING),
        (excluded(Status.ABORTED, "not every pod ended before the deadline"), Failure.DEADLINE),
        (excluded(Status.ABORTED, "interrupted"), None),
        (excluded(Status.CACHED), None),
    ],
)
def test_an_excluded_cell_has_its_failure_by_name(
    found: CellRecord, failure: Failure | None
) -> None:
    assert cell_failure(found) is failure


def test_one_failure_that_explains_all_excluded_cells_is_the_exit_code() -> None:
    valid, lost = cell(), excluded(Status.NODE_LOST)
    assert ledger_exit_code([valid]) is ExitCode.OK
    assert ledger_exit_code([valid, lost, lost]) is ExitCode.NODE_LOST
    assert ledger_exit_code([lost, excluded(Status.EVICTED)]) is ExitCode.INCOMPLETE
    assert ledger_exit_code([excluded(Status.CACHED)]) is ExitCode.INCOMPLETE


@pytest.mark.parametrize(
    ("codes", "worse"),
    [
        ([0, 0], 0),
        ([0, 3], 3),
        ([3, 10], 10),
        ([10, 1], 1),
        ([1, 130], 130),
        ([130, 7], 7),
        ([137, 3], 137),
        ([], 0),
    ],
)
def test_of_several_runs_what_may_cost_money_is_worst(codes: list[int], worse: int) -> None:
    assert worst(codes) == worst(reversed(codes)) == worse


def test_the_wait_for_late_log_entries_is_as_the_failure_says() -> None:
    entry = CATALOGUE[Failure.EVENT_SOURCE_DOWN]
    assert f"Cloud Logging: for {LATE_ENTRIES_S / 60:g} minutes" in entry.retried


def named_in(tree: ast.AST) -> set[str]:
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_every_exit_code_is_raised_somewhere() -> None:
    """By its name or its failure's, or by an error class that is raised outside its own module."""
    used: set[str] = set()
    called: set[str] = set()
    by_class: dict[str, set[str]] = {}
    for path in (path for name in PACKAGES for path in (ROOT / name).rglob("*.py")):
        for statement in ast.parse(path.read_text("utf-8")).body:
            names = {
                node.func.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            called |= names
            if isinstance(statement, ast.ClassDef):
                bases = {ast.unparse(base) for base in statement.bases}
                own = named_in(statement)
                by_class.setdefault(statement.name, set()).update(own, bases)
            elif isinstance(statement, ast.AnnAssign) and "CATALOGUE" in ast.unparse(
                statement.target
            ):
                continue
            else:
                used |= named_in(statement)
    for name in called & set(by_class):
        pending = [name]
        while pending:
            found = by_class.get(pending.pop(), set())
            used |= found
            pending += [base for base in found if base in by_class]
    used |= {
        f"ExitCode.{entry.exit_code.name}"
        for failure, entry in CATALOGUE.items()
        if f"Failure.{failure.name}" in used
    }
    assert {code.name for code in ExitCode if f"ExitCode.{code.name}" not in used} == set()
