"""What limits a pull: contrasts first, then measured roofs; a roof that pulls exceed is refuted."""

import json
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.ask.answers import all_cards
from analysis.ask.questions.limit import limit
from schema.run_records import RoofRecord
from tests.analysis.recorded import write_run_folder
from tests.analysis.simulated import Noise, Site, by_size, chonks, simulate

IMAGES = chonks((0.5, 1.2, 3.0, 7.0), [9])
QUIET = Noise(node=0.05, pull=0.03, trial=0.01, cluster=0.01)
FASTEST = 163e6
"""Unpacked bytes a second of by_size at 7 GB."""


def roofs(**rates: float) -> pd.DataFrame:
    """A cluster with roofs; rates as shares of the fastest pull's."""
    each = {f"{part}_bytes_per_s": FASTEST / share for part, share in rates.items()}
    found = (RoofRecord(node="n0-0", **each),) if rates else ()
    return pd.DataFrame({"cluster": ["c0"], "roofs": [found]})


def test_without_contrast_and_roof_there_are_only_rates() -> None:
    found = limit(simulate(IMAGES, [Site()]), roofs())
    assert (found.verdict, found.answered) == ("Cannot tell: nothing isolates a limit.", False)
    assert "MB/s" in found.effect


def test_nodes_without_roofs_say_why() -> None:
    found = (RoofRecord(node="n0-0", note="a simulated node has no disk"),)
    clusters = pd.DataFrame({"cluster": ["c0"], "roofs": [found]})
    card = limit(simulate(IMAGES, [Site()]), clusters)
    assert not card.answered
    assert card.detail == "No roof was measured: a simulated node has no disk."


@pytest.mark.parametrize(("none_takes", "verdict"), [(1.6, "The network."), (0.6, "Unpacking.")])
def test_compression_tells_network_from_unpacking(none_takes: float, verdict: str) -> None:
    images = [f"{image}-gzip6sa" for image in IMAGES] + [f"{image}-nonesb" for image in IMAGES]
    samples = simulate(
        images,
        [Site()],
        lambda i, s: by_size(i, s) * (none_takes if i["compression"] == "none" else 1.0),
        noise=QUIET,
    )
    assert limit(samples, roofs(unpack=0.3)).verdict == verdict


@pytest.mark.parametrize(
    ("shares", "verdict", "answered"),
    [
        ({"unpack": 0.95, "write": 0.4}, "Unpacking, by its measured roof.", True),
        ({"write": 0.9}, "The disk, by its measured roof.", True),
        ({"unpack": 0.95, "write": 1.6}, "Unpacking, by its measured roof.", True),
        ({"unpack": 0.95, "write": 0.9}, "Cannot tell: several roofs are near.", False),
        ({"unpack": 0.3, "write": 0.4}, "None of the measured parts.", True),
        ({"write": 5.6}, "None of the measured parts.", True),
    ],
)
def test_roofs(shares: dict[str, float], verdict: str, answered: bool) -> None:
    found = limit(simulate(IMAGES, [Site()], noise=QUIET), roofs(**shares))
    assert (found.verdict, found.answered) == (verdict, answered)
    assert found.effect.count("refuted") == sum(share > 1.1 for share in shares.values())


def test_roofs_are_read_from_the_run(tmp_path: Path) -> None:
    run = write_run_folder(tmp_path)
    record = json.loads((run / "run.json").read_text())
    record["roofs"] = [{"node": "n", "unpack_bytes_per_s": 170e6}]
    (run / "run.json").write_text(json.dumps(record))
    (found,) = (c for c in all_cards(analysis.load([run])) if c.contrast == "limit")
    assert found.verdict == "Unpacking, by its measured roof."
    assert "unpacking one layer 170 MB/s" in found.effect
