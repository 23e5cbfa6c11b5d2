"""`python -m tests.chaos`: runs the matrix of faults and tells what of it the runs found."""

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
from tests.chaos.findings import differences, findings, invented
from tests.chaos.matrix import MATRIX, SEED, UNDISTURBED, Scenario
from tests.chaos.outcome import Outcome, read_outcome

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "studies" / "smoke.yaml"
LONGEST_S = 300
KILLED = -9


@dataclass(frozen=True)
class Played:
    """A scenario that was run."""

    scenario: Scenario
    outcome: Outcome
    seconds: float


def main() -> int:
    """Run what was asked for; 0 when every fault was found and nothing was invented."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", help="scenarios; default: all")
    parser.add_argument("--full", action="store_true", help="the long ones too")
    parser.add_argument("--at-once", type=int, default=3, help="runs at the same time")
    parser.add_argument("--keep", type=Path, help="keep the runs in this folder")
    given = parser.parse_args()
    chosen = [
        each
        for each in MATRIX
        if each is UNDISTURBED
        or (each.name in given.names if given.names else given.full or not each.full)
    ]
    begun = time.monotonic()
    with _folder(given.keep) as folder, ThreadPoolExecutor(given.at_once) as threads:
        played = list(threads.map(lambda scenario: play(scenario, folder), chosen))
    undisturbed = next(each.outcome for each in played if each.scenario is UNDISTURBED)
    problems = [problem for each in played for problem in judge(each, undisturbed)]
    strikes = sum(len(each.outcome.strikes) for each in played)
    print(f"\n{len(played)} runs, {strikes} strikes, {time.monotonic() - begun:.0f} s")
    for problem in problems:
        print(f"NOT AS IT MUST BE: {problem}")
    return 1 if problems else 0


def judge(played: Played, undisturbed: Outcome) -> list[str]:
    """Print what the run found; what is not as it must be."""
    scenario, outcome = played.scenario, played.outcome
    counted = f"{len(outcome.valid)} of {len(outcome.cells)} cells valid"
    print(f"\n{scenario.name}: exit code {outcome.code}, {counted}, {played.seconds:.0f} s")
    problems = []
    if outcome.code != scenario.code:
        last = " | ".join(outcome.output.strip().splitlines()[-3:])
        problems.append(f"exit code {outcome.code} instead of {scenario.code}: {last}")
    if not outcome.evidence and not scenario.faults:
        problems.append("no evidence was recorded")
    for finding in findings(outcome, scenario.faults):
        shown = finding.found or f"NOT FOUND, wanted: {finding.wanted}"
        print(f"  {finding.fault}: struck {finding.strikes}: {shown}")
        if not finding.found:
            problems.append(f"{finding.fault}: {finding.wanted}")
    problems += [f"invented: {each}" for each in invented(outcome)]
    if outcome.cells and scenario.speed:  # real nodes' images are smaller
        problems += [f"tables differ: {each}" for each in differences(outcome, undisturbed)]
    if not scenario.faults:
        lost = sum(s.lost for record in outcome.evidence for s in record.sources.values())
        print(f"  events lost with the program's own settings: {lost}")
        problems += [f"{lost} events lost without any fault"] if lost else []
    return [f"{scenario.name}: {problem}" for problem in problems]


def play(scenario: Scenario, folder: Path) -> Played:
    """Run a scenario in a folder and a home of its own, and read what it left."""
    place = folder / scenario.name
    place.mkdir()
    home = Home(folder / f"home-{scenario.name}")
    begun = time.monotonic()
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
    seconds = time.monotonic() - begun
    print(f"{scenario.name} ended after {seconds:.0f} s", flush=True)
    return Played(scenario, outcome, seconds)


def _experiment(place: Path, home: Home, *arguments: str) -> tuple[int, str]:
    """Run the program as a user does; its exit code and all that it said."""
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
