"""Inputs of many forms, each with the pulls that it holds; files are in tests/data/inputs."""

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.cli import app
from analysis.read.event_table import NoEventError
from analysis.read.read_events import Notes, read_events
from analysis.tables import open_tables

INPUTS = Path(__file__).parents[1] / "data" / "inputs"

TWO = [
    ("one:1", "n1", "pulled", 7.0, 7.0, 7.002, "valid"),
    ("one:1", "n2", "pulled", 9.5, 9.5, 9.502, "valid"),
]
"""What most forms hold: image, node, outcome, pull_s, pull_and_wait_s, pulling_s, status."""

FORMS = (
    "eventrouter.jsonl",
    "otel-body.jsonl",
    "loki-logcli.jsonl",
    "audit.jsonl",
    "half-wrapped.jsonl",
    "events.yaml",
    "utf16-powershell.json",
    "stern.log",
    "warning-before-json.txt",
)

PULLS = {
    **dict.fromkeys(("audit.jsonl", "bundle.tar.gz", "multi-arch.json"), TWO),
    "folder": [TWO[0], ("two:1", *TWO[1][1:])],
    "cluster-state": [
        ("one:1", "n1", "pulled", 0.2, 0.2, 0.202, "repeated"),
        ("one:1", "n1", "pulled", 7.0, 7.0, 7.002, "repeated"),
        TWO[1],
        ("two:1", "n1", "pulled", 3.0, 3.0, 3.002, "valid"),
    ],
    "no-duration.json": [
        ("one:1", "n1", "pulled", None, None, 7.002, "valid"),
        ("one:1", "n2", "pulled", None, None, 9.502, "valid"),
    ],
    "duration-with-wait.json": [
        ("one:1", "n1", "pulled", None, 80.0, 80.002, "valid"),
        ("two:1", "n1", "pulled", None, 120.0, 120.002, "valid"),
    ],
    "backoff-only.json": [
        ("one:1", "n1", "failed", None, None, None, "failed"),
        ("one:1", "n2", "pulled", 5.0, 5.0, 5.002, "valid"),
    ],
    "image-volumes.json": [
        ("one:1", "n1", "pulled", 4.0, 4.0, 4.002, "valid"),
        ("two:1", "n1", "failed", None, None, None, "failed"),
    ],
    "in-place-update.json": [
        ("one:1", "n1", "pulled", 4.0, 4.0, 4.002, "valid"),
        ("two:1", "n1", "failed", None, None, None, "failed"),
    ],
    "same-duration-counted.json": [
        ("one:1", "n1", "pulled", 0.138, 0.138, 0.138, "repeated"),
        ("one:1", "n1", "pulled", 0.138, 0.138, 0.138, "repeated"),
        ("one:1", "n1", "pulled", 6.2, 6.2, 6.2, "repeated"),
    ],
    "no-uids-same-name.json": [
        ("one:1", "n1", "pulled", 4.0, 4.0, 4.002, "valid"),
        ("one:1", "n2", "pulled", 6.0, 6.0, 6.002, "valid"),
    ],
    "always-implausible.json": [
        ("one:1", "n1", "pulled", 0.074, 0.074, 0.076, "cached"),
        ("one:1", "n2", "pulled", 41.0, 41.0, 41.002, "valid"),
        ("one:1", "n3", "pulled", 0.111, 0.111, 0.113, "cached"),
    ],
    "pressure-counted.json": [
        ("one:1", "n1", "pulled", 30.0, 30.0, 30.002, "disk-pressure"),
        ("one:1", "n2", "pulled", 31.0, 31.0, 31.002, "valid"),
    ],
    "gc-failed-no-stats.json": [("one:1", "n1", "pulled", 30.0, 30.0, 30.002, "valid")],
    "combined-updates.jsonl": [
        # An update of an event has whole seconds; the kubelet's own durations are exact.
        (f"c{n:02}:1", "n1", "pulled", s, s, round(s + 0.002, 3) if n < 11 else 3.0, "valid")
        for n, s in ((n, 2 + n / 10) for n in range(13))
    ],
}  # fmt: skip


STEPS = ("Scheduled", "Pulling", "Pulled", "Created", "Started")


@pytest.mark.parametrize("name", FORMS)
def test_the_events_in_a_form(name: str) -> None:
    notes = Notes()
    found = [
        (read.event.involved.name, read.event.reason) for read in read_events(INPUTS / name, notes)
    ]
    assert set(found) == {(pod, reason) for pod in "ab" for reason in STEPS}
    assert len(found) == len(set(found))
    assert notes.counts.total() == (name == "warning-before-json.txt")


@pytest.mark.parametrize("name", PULLS)
def test_the_pulls_in_an_input(name: str) -> None:
    with open_tables([INPUTS / name]) as tables:
        rows = tables.rows(
            "SELECT split_part(image, '/', 3) AS image, node, outcome, pull_s, pull_and_wait_s, "
            "round(pulling_s, 6) AS pulling_s, status FROM pulls "
            "ORDER BY image, node, pull_s, status"
        )
        assert not tables.notes.counts
        assert tables.rows("SELECT count(*) AS n FROM other_pulls")[0]["n"] == 0
    assert [tuple(row.values()) for row in rows] == PULLS[name]
    values = [value for row in rows for value in row.values() if isinstance(value, float)]
    assert not any(math.isnan(value) for value in values)


def test_a_layout_of_the_exporter_is_refused_with_its_fields() -> None:
    with (
        pytest.raises(NoEventError, match="10 objects describe events in a form") as caught,
        open_tables([INPUTS / "exporter-layout.jsonl"]),
    ):
        pass
    assert "fields message, reason, type, count, kind" in str(caught.value)


def test_what_is_passed_over_is_counted_on_the_screen(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    layout = (INPUTS / "exporter-layout.jsonl").read_text()
    (folder / "events.json").write_text((INPUTS / "eventrouter.jsonl").read_text() + layout)
    (folder / "prices.json").write_text('{"usd": 1}')
    (folder / "later.log").write_text((INPUTS / "audit.jsonl").read_text())
    result = CliRunner().invoke(app, ["tables", str(folder), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert "10 objects describe events in a form that is not read" in result.output
    assert "1 file has no events" in result.output
    notes = (tmp_path / "out" / "notes.csv").read_text()
    assert "prices.json" in notes
    assert "later.log" not in notes


def test_images_of_init_containers_are_not_studied(tmp_path: Path) -> None:
    recorded = json.loads((INPUTS / "image-volumes.json").read_text())
    for item in recorded["items"]:
        if "two:1" in item["message"]:
            item["involvedObject"]["fieldPath"] = "spec.initContainers{view}"
    path = tmp_path / "events.json"
    path.write_text(json.dumps(recorded))
    with open_tables([path]) as tables:
        assert [row["image"] for row in tables.rows("SELECT image FROM studied")] == [
            "reg.example/app/one:1"
        ]
        assert len(tables.rows("FROM other_pulls")) == 1
