"""Plots as files."""

from pathlib import Path

import pytest

from analysis.ask.study_data import load_clusters
from analysis.show.plot_files import PlotError, new_figure, save, style
from analysis.show.plots import _machines, write_plots
from analysis.tables import open_tables
from schema.run_records import Rehearsal, Status
from tests.analysis.recorded import (
    IMAGES,
    START,
    Pod,
    event,
    lines,
    study_events,
    write_run_folder,
    write_study,
)


def plots_of(inputs: list[Path], out: Path) -> dict[str, Path]:
    with open_tables(inputs) as tables:
        return {path.name: path for path in write_plots(tables, out)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("plots")
    return plots_of([write_study(root / "metadata", (4,))], root / "out")


EXPECTED = (
    "pull-time-by-cluster", "pull-time-by-layers", "wall-time", "distribution-run1-4",
    "node-map-run1-4", "timeline-run1-4",
)  # fmt: skip


def test_each_plot_is_an_svg_and_a_png(drawn: dict[str, Path]) -> None:
    for name in EXPECTED:
        assert drawn[f"{name}.svg"].read_text().startswith("<?xml")
        assert drawn[f"{name}.png"].read_bytes().startswith(b"\x89PNG")


def text_of(path: Path) -> str:
    return " ".join(path.read_text().split())


def test_axes_have_units_and_figures_their_n(drawn: dict[str, Path]) -> None:
    text = text_of(drawn["pull-time-by-cluster.svg"])
    assert "pull time (s)" in text
    assert "n = 12 cells with a successful pull: 12 valid, 0 excluded." in text
    assert "1.18 GB" in text
    assert "19 GB" in text
    assert "image size (GB, unpacked)" in text_of(drawn["pull-time-by-layers.svg"])


def test_simulated_data_is_watermarked_and_drawn_apart(tmp_path: Path) -> None:
    run = write_run_folder(
        tmp_path / "r", rehearsal=Rehearsal(nodes="simulated", scale=0.01), spoilt=Status.FAILED
    )
    one_pull = write_study(tmp_path / "m", (1,), IMAGES[:1])
    svgs = {n: p for n, p in plots_of([run, one_pull], tmp_path / "out").items() if ".svg" in n}
    simulated = {name for name in svgs if "simulated-nodes" in name}
    assert len(simulated) >= 6
    assert "pull-time-by-cluster.svg" in svgs
    for name, path in svgs.items():
        assert ("SIMULATED NODES" in text_of(path)) is (name in simulated), name


def test_the_same_data_gives_the_same_bytes(drawn: dict[str, Path], tmp_path: Path) -> None:
    again = plots_of([write_study(tmp_path / "metadata", (4,))], tmp_path / "out")
    for name in ("pull-time-by-cluster.svg", "timeline-run1-4.svg", "wall-time.png"):
        assert again[name].read_bytes() == drawn[name].read_bytes()


def test_machine_types_are_compared_where_there_are_two(tmp_path: Path) -> None:
    for machine in ("n1-standard-16", "n1-standard-64"):
        folder = tmp_path / "m" / "test" / machine
        folder.mkdir(parents=True)
        (folder / "events-size-8-1.json").write_text(lines(study_events(8)))
    with open_tables([tmp_path / "m"]) as tables, style():
        svg, _ = _machines(load_clusters(tables), tmp_path / "out", "", "")
    assert "price of the nodes (USD)" in text_of(svg)


def test_no_pulls_give_no_plots(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text(lines([event(Pod("a", "b"), "Started", "Started container x", START)]))
    assert plots_of([path], tmp_path / "out") == {}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    figure, _ = new_figure()
    with pytest.raises(PlotError, match="cannot be written"):
        save(figure, tmp_path / "out", "x", "n = 1")
