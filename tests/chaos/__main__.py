"""`python -m tests.chaos`: run the matrix of faults; 0 if each is found and none is invented."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rehearsal.faults.faults import injected_file
from rehearsal.machine.home import HOME_VARIABLE, Home, end
from schema.names import REHEARSAL_VARIABLE
from tests.chaos.judge import differences, invented, missed
from tests.chaos.matrix import MATRIX, SEED, UNDISTURBED, Scenario
from tests.chaos.outcome import Outcome, read_outcome

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "studies" / "smoke.yaml"
LONGEST_S = 420
KILLED = -9


@dataclass(frozen=True)
class Played:
    scenario: Scenario
    outcome: Outcome
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", help="scenarios; default: all")
    parser.add_argument("--full", action="store_true", help="the long ones too")
    parser.add_argument("--at-once", type=int, default=3, help="runs at the same time")
    parser.add_argument("--keep", type=Path, help="keep the runs in this folder")
    given = parser.parse_args()
    chosen = [each for each in MATRIX if _is_chosen(each, given)]
    started = time.monotonic()
    with _folder(given.keep) as folder, ThreadPoolExecutor(given.at_once) as threads:
        played = list(threads.map(lambda scenario: play(scenario, folder), chosen))
    undisturbed = next((e.outcome for e in played if e.scenario is UNDISTURBED), None)
    problems = [problem for each in played for problem in judge(each, undisturbed)]
    injections = sum(len(each.outcome.injections) for each in played)
    print(f"\n{len(played)} runs, {injections} faults injected, {time.monotonic() - started:.0f} s")
    for problem in problems:
        print(f"FAILED: {problem}")
    return 1 if problems else 0


def _is_chosen(scenario: Scenario, given: argparse.Namespace) -> bool:
    if given.names:
        return scenario.name in given.names
    return not scenario.alone and (given.full or not scenario.full)


def judge(played: Played, undisturbed: Outcome | None) -> list[str]:
    """Print what the run found; return the problems."""
    scenario, outcome = played.scenario, played.outcome
    problems = [*missed(outcome, scenario.faults), *invented(outcome)]
    if outcome.code != scenario.code:
        last = " | ".join(outcome.output.strip().splitlines()[-3:])
        problems.append(f"exit code {outcome.code} instead of {scenario.code}: {last}")
    if undisturbed and outcome.cells and scenario.speed:  # real nodes' images are smaller
        problems += differences(outcome, undisturbed)
    if not scenario.faults:
        lost = sum(s.lost for record in outcome.evidence for s in record.sources.values())
        problems += [f"{lost} events lost without any fault"] if lost else []
        problems += [] if outcome.evidence else ["no evidence was recorded"]
    print(
        f"{scenario.name}: exit code {outcome.code}, {len(outcome.valid)} of {len(outcome.cells)} "
        f"cells valid, {len(outcome.injections)} faults injected, {played.seconds:.0f} s"
    )
    return [f"{scenario.name}: {problem}" for problem in problems]


def play(scenario: Scenario, folder: Path) -> Played:
    """Run a scenario in a folder and a home of its own, and read the result."""
    place = folder / scenario.name
    place.mkdir()
    home = Home(folder / f"home-{scenario.name}")
    started = time.monotonic()
    common = ["--rehearse", "--yes", "--quiet"]
    kind = ["--nodes", "simulated", "--speed", str(scenario.speed)] if scenario.speed else []
    try:
        code, output = _experiment(
            place,
            home,
            *("run", "--stack", scenario.stack, "--study", str(STUDY), "--seed", str(SEED)),
            *("--run-id", "run", *common, *kind),
            *(f"--fault={fault}" for fault in scenario.faults),
        )
        if scenario.resumed and code == KILLED:
            code, more = _experiment(place, home, "run", "--resume", "run", *common)
            output += more
    finally:
        end(home)
    outcome = read_outcome(code, output, place / "data/runs/run", injected_file(home.folder))
    seconds = time.monotonic() - started
    print(f"{scenario.name} ended after {seconds:.0f} s", flush=True)
    return Played(scenario, outcome, seconds)


def _experiment(place: Path, home: Home, *arguments: str) -> tuple[int, str]:
    """Run the program as a user does; return its exit code and output."""
    inherited = {k: v for k, v in os.environ.items() if k != REHEARSAL_VARIABLE}
    log = place / "output.txt"
    with log.open("ab") as out:
        before = log.stat().st_size
        process = subprocess.Popen(
            [sys.executable, "-m", "experiment", *arguments],
            cwd=place,
            env={**inherited, HOME_VARIABLE: str(home.folder)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    return code, log.read_bytes()[before:].decode(errors="replace")


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True)
        yield kept.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="pull-study-chaos-") as name:
        yield Path(name)


if __name__ == "__main__":
    sys.exit(main())
