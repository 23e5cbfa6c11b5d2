"""`python -m tests.mutants`: turn protections off, one at a time, and see that a test notices.

Each mutant replaces a text that must be in its file exactly once, in a copy of the project, and the
named test must fail there. 0 if all are caught; the names given, or all.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = (
    "analysis", "experiment", "images", "infra", "rehearsal", "schema", "studies", "tests", "tools",
    "Pulumi.yaml", "pyproject.toml",
)  # fmt: skip
LONGEST_S = 600
TESTS_FAILED = 1
"""pytest's exit code; others mean that the tests did not run."""


@dataclass(frozen=True)
class Mutant:
    """A protection, where it is, the text that turns it off, and a test that must notice."""

    name: str
    path: str
    text: str
    instead: str
    test: str


def _runner(name: str, path: str, text: str, instead: str, test: str) -> Mutant:
    return Mutant(name, f"experiment/{path}", text, instead, f"tests/experiment/{test}")


MUTANTS = (
    # Nothing is left that costs money.
    _runner(
        "a resumed run looks for its cluster before it checks anything",
        "run_study.py", "if resumed:  # first", "if False:  # first",
        "test_run_study.py::test_a_resume_that_fails_its_checks_takes_the_cluster_down",
    ),
    _runner(
        "a teardown that failed is no end",
        "run_study.py", "Phase.TEARDOWN and last[0].error is None", "Phase.TEARDOWN",
        "test_run_study.py::test_a_teardown_that_failed_is_retried_and_its_failure_raised",
    ),
    _runner(
        "what a killed engine was creating is adopted",
        "provision/state_repair.py", 'pending["type"] == "creating"', 'pending["type"] == ""',
        "provision/test_state_repair.py::test_pending_creations_are_taken_over_and_settled",
    ),
    _runner(
        "GKE is asked after pulumi up",
        "provision/stack_cluster.py",
        "if found is None or not found.healthy:\n            raise",
        "if False:\n            raise",
        "provision/test_stack_cluster.py"
        "::test_a_cluster_that_pulumi_reports_up_and_gke_does_not_is_refused",
    ),
    _runner(
        "a teardown is tried again",
        "provision/stack_cluster.py", "_TEARDOWN_S = 1800.0", "_TEARDOWN_S = 0.0",
        "provision/test_stack_cluster.py::test_a_teardown_is_tried_until_it_succeeds",
    ),
    _runner(
        "GKE deletes what Pulumi cannot",
        "provision/stack_cluster.py", "            self.gke.delete()\n", "            pass\n",
        "provision/test_stack_cluster.py"
        "::test_after_half_an_hour_gke_deletes_the_cluster_and_the_rest_is_named",
    ),
    _runner(
        "a cluster that is used again lives long enough",
        "provision/stack_cluster.py", "if self.least_hours and (", "if False and (",
        "provision/test_stack_cluster.py::test_a_resumed_run_moves_a_deadline_that_is_too_near",
    ),
    _runner(
        "after three failed teardowns no cluster is created",
        "cli/several_runs.py", ">= _MOST_TEARDOWNS", ">= 99",
        "cli/test_several_runs.py::test_three_clusters_that_could_not_be_deleted_are_the_last",
    ),
    _runner(
        "an interruption reaches a run that is being started",
        "cli/several_runs.py", "if self._stopping.is_set():  # since", "if False:  # since",
        "cli/test_several_runs.py"
        "::test_an_interruption_while_a_run_is_being_started_reaches_it_too",
    ),
    _runner(
        "the budget counts a cluster that was left up",
        "plan/cost.py", "if record.cluster_since and record.cluster_until:", "if False:",
        "plan/test_cost.py"
        "::test_the_budget_counts_killed_attempts_and_the_time_between_attempts",
    ),
    # Only what is this run's own is touched.
    _runner(
        "one process works on a run",
        "run_folder.py", "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass",
        "test_run_folder.py::test_a_run_is_locked_until_its_process_ends_even_by_kill_9",
    ),
    _runner(
        "a resource of another program is not adopted",
        "provision/state_repair.py", "return {key: want.get(key) for key in ours} ==",
        "return True or {} ==",
        "provision/test_state_repair.py::TestStrangers::test_one_without_them_is_not",
    ),
    _runner(
        "the quota that the run's own cluster uses is not needed again",
        "preflight/quota_checks.py", "- sum(each[metric] for each in own)", "- 0",
        "preflight/test_google_checks.py"
        "::test_what_the_run_s_own_cluster_holds_is_not_needed_again",
    ),
    # What is said is true.
    _runner(
        "the first problem is shown although teardown failed too",
        "run_study.py", 'left.add_note(f"The run had failed before: {problem.problem}")', "pass",
        "test_teardown_always.py::test_the_first_problem_is_shown_although_teardown_failed_too",
    ),
    _runner(
        "nohup is respected",
        "interrupts.py", "old not in {signal.SIG_IGN, None}", "old is not None",
        "test_interrupts.py::test_a_signal_that_is_ignored_stays_ignored_as_under_nohup",
    ),
    _runner(
        "a list that has all events is no gap",
        "measure/reflector.py", "return self._what.events and now()", "return False and now()",
        "measure/test_reflector.py::test_events_are_listed_again_within_their_hour_without_a_gap_"
        "and_only_new_ones_are_reported",
    ),
    _runner(
        "a list that lacks events is a gap",
        "measure/reflector.py", "return self._what.events and now()", "return True or now()",
        "measure/test_reflector.py"
        "::test_events_that_are_listed_again_after_more_than_their_hour_are_a_gap",
    ),
    _runner(
        "Cloud Logging is complete only with every event",
        "collect/cloud_logging.py", "return self._expected <= self._found", "return True",
        "collect/test_cloud_logging.py::test_what_is_late_is_reported_and_read_later",
    ),
    # What happens on the way loses nothing.
    _runner(
        "tokens are renewed ahead of time",
        "tokens.py", "if self._left_s(self._token) <= _AHEAD_S:", "if False:",
        "test_tokens.py"
        "::test_a_request_never_waits_for_the_plugin_which_runs_a_few_times_an_hour",
    ),
    _runner(
        "an API server that is away is waited for",
        "outage.py", "AWAY = {0, 429, 500, 502, 503, 504}", "AWAY = {429}",
        "test_kube.py"
        "::test_an_api_server_that_is_away_for_five_minutes_is_waited_for_and_reported_once",
    ),
    _runner(
        "a refused binding is an error",
        "kube.py", "if not (refused.retried and refused.status ==", "if not (refused.status ==",
        "test_kube.py::test_a_conflict_of_a_binding_is_passed_over_only_where_an_earlier_try_may_have_"
        "had_its_effect",
    ),
    _runner(
        "a record is a line of bytes",
        "run_folder.py", "for line in file:", 'for line in path.read_text("utf-8").splitlines():',
        "test_run_folder.py::test_line_separators_within_a_message_do_not_split_its_record",
    ),
    _runner(
        "a line that was cut off spoils no other",
        "run_folder.py", "if file.tell() and not _ends_with_newline", "if 0 and _ends_with_newline",
        "test_run_folder.py::test_a_line_half_written_by_a_killed_runner_costs_that_line_alone",
    ),
    _runner(
        "a signal does not wait for a lock that its own thread holds",
        "run_folder.py", "threading.RLock()", "threading.Lock()",
        "test_teardown_always.py::test_a_signal_while_the_log_is_written_does_not_hang",
    ),
    # Every number can be trusted.
    _runner(
        "a lost node excludes its cell",
        "collect/status_rules.py", "    (Status.NODE_LOST, _node_lost),\n", "",
        "collect/test_ledger.py"
        "::test_what_disturbs_one_cell_is_its_status_and_leaves_the_others_valid",
    ),
    _runner(
        "an image's absence is proved",
        "collect/status_rules.py", "    (Status.WARM_LAYERS, _warm_layers),\n", "",
        "collect/test_method_defects.py::TestDefect7OrderAndWarmNodes"
        "::test_an_image_pulled_again_without_proof_of_its_removal_is_not_cold",
    ),
    _runner(
        "a pull too quick for its bytes is none",
        "collect/status_rules.py", "    (Status.CACHED, _implausible),\n", "",
        "collect/test_method_defects.py::TestDefect6Streaming"
        "::test_without_streaming_a_pull_too_quick_for_its_bytes_is_no_pull",
    ),
    _runner(
        "message and clock agree",
        "collect/status_rules.py", "return _contradiction(cell)", 'return ""',
        "collect/test_method_defects.py::TestDefect10WholeSeconds"
        "::test_a_duration_that_contradicts_them_is_no_evidence",
    ),
    _runner(
        "pods that may still pull are deleted before the next turn",
        "measure/trial.py", "        if busy:\n", "        if False:\n",
        "measure/test_trial.py::test_pods_that_may_still_pull_are_deleted_before_the_next_turn",
    ),
    Mutant(
        "a node's clock that is off is corrected",
        "analysis/judge/trial_moments.py",
        "offsets.get((cell.attempt, cell.node), 0.0),\n        known", "0.0,\n        known",
        "tests/analysis/judge/test_wall_time.py"
        "::test_a_nodes_clock_that_is_off_changes_no_trials_time",
    ),
    Mutant(
        "times that cannot be placed are unexplained",
        "analysis/judge/trial_moments.py", "if too_early or too_late:", "if False:",
        "tests/analysis/judge/test_wall_time.py"
        "::test_times_between_which_a_nodes_clock_was_set_are_unexplained",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How the tests of a copy ended."""

    code: int
    output: str
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants; default: all")
    chosen = parser.parse_args().names
    mutants = [mutant for mutant in MUTANTS if not chosen or mutant.name in chosen]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        return judge(mutants, Path(folder))


def judge(mutants: Iterable[Mutant], folder: Path) -> int:
    """Print what became of each mutant; return 0 if all are caught."""
    mutants = list(mutants)
    whole = run_tests(copied(folder / "0"), [mutant.test for mutant in mutants])
    if whole.code != 0:
        print(whole.output, file=sys.stderr)
        print("the tests fail without a mutant", file=sys.stderr)
        return 2
    caught = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = pool.map(lambda each: outcome(each[1], folder / str(each[0])),
                            enumerate(mutants, 1))  # fmt: skip
        for mutant, done in zip(mutants, outcomes, strict=True):
            is_caught = done.code == TESTS_FAILED
            caught += is_caught
            print(f"{'caught' if is_caught else 'MISSED'} {done.seconds:5.1f} s  {mutant.name}")
            if not is_caught:
                print(done.output, file=sys.stderr)
    print(f"{caught} of {len(mutants)} mutants caught")
    return int(caught != len(mutants))


def outcome(mutant: Mutant, folder: Path) -> Outcome:
    """Run a mutant's test on a copy in which its protection is off."""
    root = copied(folder)
    file = root / mutant.path
    file.write_text(mutated(mutant, file.read_text("utf-8")), "utf-8")
    done = run_tests(root, [mutant.test])
    shutil.rmtree(folder)
    return done


def mutated(mutant: Mutant, source: str) -> str:
    """Return a file's text with the protection turned off.

    Raises:
        ValueError: the text is not there exactly once.
    """
    if source.count(mutant.text) != 1:
        raise ValueError(f"{mutant.path} has {mutant.text!r} {source.count(mutant.text)} times")
    return source.replace(mutant.text, mutant.instead)


def copied(folder: Path) -> Path:
    """Copy what the tests need; the environment is shared."""
    folder.mkdir(parents=True)
    for name in COPIED:
        source, copy = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    for stack in ROOT.glob("Pulumi.*.yaml"):
        shutil.copy(stack, folder)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def run_tests(root: Path, tests: list[str]) -> Outcome:
    """Run tests of a copy; a hang fails by pytest's timeout of a minute for each test."""
    began = time.monotonic()
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "PYTHONPYCACHEPREFIX": str(root.parent / "bytecode"),  # the libraries' is shared
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    options = ["-q", "-x", "-p", "no:cacheprovider", "--timeout=60", f"--basetemp={root}.tmp"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
