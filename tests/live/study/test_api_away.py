"""The API server is away after a trial's release: the run waits for it, and loses nothing."""

from __future__ import annotations

import pytest

from schema.run_records import Source, Status
from tests.live.harness import FAST, LONGEST_S, Place

pytestmark = [pytest.mark.live, pytest.mark.full, pytest.mark.timeout(LONGEST_S)]

STUDY = """\
name: away
images:
  - repository: ghcr.io/a/b
    tags: [1-layers-size-48702097-bytes, 3-layers-size-48702097-bytes, 9-layers-size-48702097-bytes]
"""


@pytest.mark.parametrize("away_s", [12, 290])
def test_a_run_waits_for_an_api_server_that_is_away_even_longer_than_a_trials_deadline(
    place: Place, away_s: int
) -> None:
    (place.folder / "study.yaml").write_text(STUDY)
    output = place.succeed(
        "experiment", "run", "--stack", "size-4", "--study", "study.yaml", "--rehearse", "--yes",
        "--run-id", "r", *FAST, "--fault", f"api-away:trial=2,s={away_s}",
    )  # fmt: skip
    assert output.count("The cluster's API server is away") == 1
    assert output.count("The API server is back after") == 1
    folder = place.record("r")
    assert [cell.status for cell in folder.cells()] == [Status.VALID] * 12
    assert [trial.error for trial in folder.trials()] == [None] * 3
    gaps = [gap for gap in folder.gaps() if gap.source is Source.WATCH]
    assert gaps
    assert all(gap.recovered for gap in gaps)
    assert max((gap.until - gap.since).total_seconds() for gap in gaps) >= away_s
