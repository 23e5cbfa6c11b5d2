"""When shares of an image's bytes were read: within a cluster, and between ways to get images."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.ask.answers import all_cards
from analysis.ask.questions.cards import Card
from analysis.ask.questions.readiness import MOMENTS, readiness, readiness_of
from analysis.tables import open_tables
from tests.analysis.recorded import write_run_folder
from tests.analysis.simulated import Noise, Site, by_size, chonks, simulate

IMAGES = chonks((0.5, 1.2, 3.0, 7.0), [9])
QUIET = Noise(node=0.05, pull=0.01, trial=0.01, cluster=0.01)
AFTER = {"start": 1.0, "10 %": 1.02, "50 %": 1.1, "100 %": 1.3}
"""Times the time to the start, after a plain pull."""
STREAMED = {"start": 0.2, "10 %": 0.4, "50 %": 1.1, "100 %": 1.9}


def samples(*sites: Site, images: list[str] = IMAGES, shares: tuple[str, ...] = ()) -> pd.DataFrame:
    found = [
        simulate(
            images,
            sites,
            lambda image, site, name=name: (  # type: ignore[misc]
                by_size(image, site) * (STREAMED if site.streaming else AFTER)[name]
            ),
            noise=QUIET,
        ).assign(moment=name)
        for name in MOMENTS
        if name in (shares or MOMENTS)
    ]
    every = pd.concat(found, ignore_index=True)
    return every.assign(way=every["streaming"].map({True: "streaming", False: "pulling"}))


def test_a_study_that_reads_nothing_does_not_vary_it() -> None:
    card = readiness(samples(Site()).head(0))
    assert (card.varied, card.limits) == (False, "no study read its images (read)")


def test_one_way_says_how_long_after_the_start_the_last_share_was_read() -> None:
    card = readiness(samples(Site()))
    assert card.answered
    assert card.verdict.startswith("100 % after 1.3")
    assert card.verdict.endswith(" times the start's time.")
    assert card.effect.startswith("100 % of the bytes: 1.3 times (1.3")
    assert "c0 (pulling): start " in card.detail
    assert "by the runner's clock" in card.limits


def test_a_study_may_read_a_tenth_alone() -> None:
    card = readiness(samples(Site(), shares=("start", "10 %")))
    assert card.verdict.startswith("10 % after 1.02 times")


def test_one_trial_each_has_no_interval() -> None:
    card = readiness(samples(Site(), images=IMAGES[:1]))
    assert (card.answered, card.verdict) == (False, "Cannot tell: one trial each.")


def test_repeated_clusters_tell_how_streaming_compares_at_each_share() -> None:
    card = readiness(samples(*[Site()] * 3, *[Site(streaming=True)] * 3))
    assert card.verdict == "Streaming: 10 % sooner, 100 % later."
    assert card.effect.startswith("streaming against a plain pull: 10 % \u2212")
    assert "50 % " in card.effect
    assert "3 clusters" in card.basis


def test_each_way_is_compared_with_a_plain_pull() -> None:
    three = samples(*[Site()] * 2, *[Site(streaming=True)] * 2, *[Site(preloaded=True)] * 2)
    ways = three["way"].where(~three["preloaded"], "preloading")
    card = readiness(three.assign(way=ways))
    assert card.effect.startswith("preloading against a plain pull: 10 % ")
    assert card.detail.startswith("streaming against a plain pull: 10 % \u2212")
    assert card.verdict == "Preloading: 10 % alike, 100 % alike."


def test_one_cluster_of_each_way_is_an_observation_alone() -> None:
    card = readiness(samples(Site(), Site(streaming=True)))
    assert (card.answered, card.verdict) == (False, "Cannot tell: one cluster each.")
    assert card.effect.startswith("Observed: streaming against a plain pull: 10 % \u221260")
    assert "100 % +45.9 %" in card.effect


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose pods read all of their images in half the time that the pull took."""
    run = write_run_folder(tmp_path / "r")
    ledger = run / "ledger.jsonl"
    cells = [json.loads(line) for line in ledger.read_text().splitlines()]
    for cell in cells:
        read_s = cell["pull_s"] / 2
        cell.update(read_bytes=5, reading_s=read_s + 0.1, read_100_s=read_s)
    ledger.write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    return run


def test_a_run_s_readings_are_columns_and_a_card(run: Path) -> None:
    frames = analysis.load([run])
    cells = frames.cells
    since = (cells["started_at"] - cells["released_at"]).dt.total_seconds()
    assert list(cells["ready_100_s"]) == pytest.approx(list(since + cells["read_100_s"]), abs=1e-5)
    assert cells[["ready_10_s", "ready_50_s"]].isna().all(axis=None)
    assert set(cells["read_bytes"]) == {5}
    summary = frames.summary.set_index("image")["ready_100_s_median"]
    medians = cells.groupby("image", observed=True)["ready_100_s"].median()
    assert summary.loc[medians.index].tolist() == pytest.approx(medians.tolist())
    assert set(readiness_of(frames)["moment"]) == {"start", "100 %"}
    card = next(card for card in all_cards(frames) if card.contrast == "readiness")
    assert isinstance(card, Card)
    assert card.varied


def ending_later(run: Path, seconds: float) -> Path:
    """Containers, and with them the trials, end later."""
    for name, keys in (
        ("ledger.jsonl", {"finished_at"}),
        ("trials.jsonl", {"finished_at", "over_seen", "last_finished_at"}),
    ):
        lines = [json.loads(line) for line in (run / name).read_text().splitlines()]
        for line in lines:
            for place in (line, line.get("phases", {}), *line.get("pods", [])):
                for key in keys & set(place):
                    at = place[key] and datetime.fromisoformat(place[key])
                    place[key] = at and (at + timedelta(seconds=seconds)).isoformat()
        (run / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_reading_is_the_container_s_own_time_and_not_settling(run: Path, tmp_path: Path) -> None:
    def of(folder: Path) -> tuple[float, float, float]:
        with open_tables([ending_later(folder, 60)]) as tables:
            parts = tables.times[0].parts
            settling = sum(row["settling_s"] for row in tables.rows("FROM cells"))
            return parts["container"], parts["settling"], settling

    with open_tables([run]) as tables:
        cells = tables.rows("FROM cells")
    read, plain = of(run), of(write_run_folder(tmp_path / "plain"))
    least = sum(min(c["reading_s"] for c in cells if c["trial"] == n) for n in (1, 2))
    assert read[0] - plain[0] >= least
    assert read[1] - plain[1] == pytest.approx(plain[0] - read[0], abs=2)  # ends: within a second
    assert plain[2] - read[2] == pytest.approx(sum(cell["reading_s"] for cell in cells), rel=0.02)


def test_a_node_whose_clock_is_off_has_no_time_of_readiness(run: Path) -> None:
    with open_tables([run]) as tables:
        node = tables.rows("FROM cells")[0]["node"]
    evidence = {
        "attempt": 1, "at": "2024-11-10T06:48:00Z", "complete": True, "waited_s": 0, "sources": {},
        "seen_by_several": 0, "seen_by_one": 0, "seen_by_none": 0,
        "clock_offsets_s": {node: -180.0},
    }  # fmt: skip
    (run / "evidence.jsonl").write_text(json.dumps(evidence) + "\n")
    cells = analysis.load([run]).cells
    off = cells["node"] == node
    assert cells.loc[off, "ready_100_s"].isna().all()
    assert cells.loc[~off, "ready_100_s"].notna().all()
    assert cells["read_100_s"].notna().all()
