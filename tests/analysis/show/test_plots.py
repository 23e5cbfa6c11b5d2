"""Plots as files."""

from pathlib import Path

import pytest

from analysis.show.plot_files import PlotError, new_figure, save
from analysis.show.plots import write_plots
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
    return plots_of([write_study(root / "metadata")], root / "out")


EXPECTED = (
    "pull-time-by-cluster", "pull-time-by-layers", "wall-time", "distribution-run1-4",
    "distribution-run1-8", "node-map-run1-8", "timeline-run1-8",
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
    assert "n = 36 cells with a successful pull: 36 valid, 0 excluded." in text
    assert "1.18 GB" in text
    assert "19 GB" in text
    assert "image size (GB, unpacked)" in text_of(drawn["pull-time-by-layers.svg"])


def test_no_mark_on_measured_data(drawn: dict[str, Path]) -> None:
    assert not any("SIMULATED" in text_of(p) for n, p in drawn.items() if n.endswith(".svg"))


def test_simulated_data_is_watermarked_on_every_plot(tmp_path: Path) -> None:
    run = write_run_folder(
        tmp_path, rehearsal=Rehearsal(nodes="simulated", scale=0.01), spoilt=Status.FAILED
    )
    drawn = plots_of([run], tmp_path / "out")
    svgs = [path for name, path in drawn.items() if name.endswith(".svg")]
    assert len(svgs) >= 6
    for path in svgs:
        assert "SIMULATED NODES" in text_of(path), path.name
        assert "simulated-nodes" in path.name


def test_the_same_data_gives_the_same_bytes(drawn: dict[str, Path], tmp_path: Path) -> None:
    again = plots_of([write_study(tmp_path / "metadata")], tmp_path / "out")
    for name in ("pull-time-by-cluster.svg", "timeline-run1-8.svg", "wall-time.png"):
        assert again[name].read_bytes() == drawn[name].read_bytes()


def test_machine_types_are_compared_where_there_are_two(tmp_path: Path) -> None:
    for machine in ("n1-standard-16", "n1-standard-64"):
        folder = tmp_path / "m" / "test" / machine
        folder.mkdir(parents=True)
        (folder / "events-size-8-1.json").write_text(lines(study_events(8)))
    drawn = plots_of([tmp_path / "m"], tmp_path / "out")
    assert "price of the nodes (USD)" in text_of(drawn["machines.svg"])


def test_one_pull_on_one_node(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "run1" / "1"
    folder.mkdir(parents=True)
    (folder / "events-1.json").write_text(lines(study_events(1, IMAGES[:1])))
    assert "pull-time-by-cluster.svg" in plots_of([tmp_path / "m"], tmp_path / "out")


def test_no_pulls_give_no_plots(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text(lines([event(Pod("a", "b"), "Started", "Started container x", START)]))
    assert plots_of([path], tmp_path / "out") == {}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    figure, _ = new_figure()
    with pytest.raises(PlotError, match="cannot be written"):
        save(figure, tmp_path / "out", "x", "n = 1")
