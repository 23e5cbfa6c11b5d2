"""A run whose events were lost on the way gets them back from the bucket of its log sink."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from experiment.collect.archive import collect_archive
from experiment.collect.judge import judge
from experiment.errors import MeasureError
from experiment.run_folder import RunFolder
from rehearsal.machine.home import HOME_VARIABLE, Home
from rehearsal.session import session
from schema.names import REHEARSAL_VARIABLE
from schema.run_records import Source, Status
from tests.infra.stack_files import ROOT

pytestmark = [pytest.mark.live, pytest.mark.full, pytest.mark.timeout(300)]

CELLS = 6 * 4
RUN = ("run", "--stack", "size-4", "--study", str(ROOT / "studies" / "smoke.yaml"), "--yes")


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A local Google that is there before and after the run; where it answers."""
    home = Home(tmp_path_factory.mktemp("archive") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(home.folder))
        patch.delenv(REHEARSAL_VARIABLE, raising=False)
        with session(nodes="simulated", speed=20):
            yield os.environ["GOOGLE_STORAGE_CUSTOM_ENDPOINT"].removesuffix("/storage/v1/")


@pytest.fixture(scope="module")
def folder(google: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run."""
    place = tmp_path_factory.mktemp("run")
    done = subprocess.run(
        [sys.executable, "-m", "experiment", *RUN, "--run-id", "lost"],
        cwd=place,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return RunFolder(place / "data" / "runs" / "lost")


def statuses(folder: RunFolder) -> Counter[Status]:
    return Counter(cell.status for cell in folder.cells())


def test_the_command_collect_reads_lost_events_again_from_cloud_logging(folder: RunFolder) -> None:
    kept = {path: path.read_bytes() for path in folder.path.glob("events.*.jsonl")}
    assert len(kept) == 2
    for path in kept:
        path.unlink()
    judge(folder, folder.read_run(), 1, complete=False)
    assert statuses(folder) == {Status.MISSING_EVENTS: CELLS}

    done = subprocess.run(
        [sys.executable, "-m", "experiment", "collect", "lost"],
        cwd=folder.path.parents[2],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{CELLS} of {CELLS} cells" in done.stdout
    assert statuses(folder) == {Status.VALID: CELLS}
    for path, content in kept.items():
        path.write_bytes(content)


def test_lost_events_come_back_from_the_archive(google: str, folder: RunFolder) -> None:
    record = folder.read_run()
    exported = [each for each in folder.events() if each.source is Source.EXPORTER]
    assert exported
    for name in ("events.watch.jsonl", "events.logging.jsonl"):
        (folder.path / name).rename(folder.path / f"{name}.lost")
    judge(folder, record, 1, complete=False)
    assert statuses(folder) == {Status.MISSING_EVENTS: CELLS}

    with pytest.raises(MeasureError, match="holds nothing of the run lost yet") as early:
        collect_archive(folder, record)
    assert "two to three hours late" in early.value.problem
    assert "again after" in early.value.fix

    headers = {"Authorization": "Bearer any"}
    flush = f"{google}/rehearsal/sinks:flush"
    assert requests.post(flush, headers=headers, timeout=30).json()["objects"] >= 1
    new = collect_archive(folder, record)
    assert new >= len(exported)
    assert {each.insert_id for each in exported} <= {each.insert_id for each in folder.events()}
    judge(folder, record, 1, complete=False)
    assert statuses(folder) == {Status.VALID: CELLS}
    assert collect_archive(folder, record) == 0, "nothing is added twice"


def test_what_the_folder_holds_already_is_not_added(google: str, folder: RunFolder) -> None:
    lost = folder.path / "events.logging.jsonl.lost"
    if not lost.exists():
        pytest.fail("the test above renames it")
    Path(folder.path / "events.logging.jsonl").write_bytes(lost.read_bytes())
    record = folder.read_run()
    before = {each.insert_id for each in folder.events(Source.EXPORTER)}
    added = collect_archive(folder, record)
    after = [each.insert_id for each in folder.events(Source.EXPORTER)]
    assert len(after) == len(set(after)) == len(before) + added
