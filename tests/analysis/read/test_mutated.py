"""Mutations of recorded lines end no analysis, and no row says what no line says."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analysis.read.mutated import FILES, LINES, corpus, invented, read, write_batch
from tests.analysis.read.test_read_events import EVENTS, ONE
from tests.analysis.recorded import lines
from tests.recorded_data import CHONKS

_MANY = int(os.environ.get("PULL_STUDY_FUZZ_LINES", "1000000"))
_WRITTEN = 10
"""Of so many batches the tables of one are written too."""


def check(paths: list[Path], out: Path | None = None) -> dict[str, int]:
    tables = read(paths, out)
    assert list(invented(tables, b"\n".join(path.read_bytes() for path in paths))) == []
    return {name: len(rows) for name, rows in tables.items()}


def test_a_few_mutated_lines_invent_nothing(tmp_path: Path) -> None:
    found = check(write_batch(corpus(None), tmp_path, seed=0, files=4), tmp_path / "out")
    assert found["pulls"] > 9


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_million_mutated_lines_invent_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = corpus(CHONKS if CHONKS.is_dir() else None)
    began, pulls, bad = time.monotonic(), 0, []
    batches = -(-_MANY // (FILES * LINES))
    for seed in range(batches):
        out = tmp_path / "out" if seed % _WRITTEN == 0 else None
        try:
            found = check(write_batch(drawn, tmp_path, seed), out)
            pulls += found["pulls"] + found["other_pulls"]
        except Exception as error:  # noqa: BLE001 (the other batches are read too)
            bad.append(f"seed {seed}: {error!r:.500}")
    took = time.monotonic() - began
    with capsys.disabled():
        count = batches * FILES * LINES
        print(f"{count} lines, {pulls} pulls, {took:.0f} s ({count / took:.0f} lines a second)")
    assert bad == []


@given(st.lists(st.text() | st.binary().map(lambda data: data.decode("latin-1")), max_size=99))
@settings(max_examples=8, deadline=None)
def test_lines_of_any_text_invent_nothing(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("any") / "events.json"
    path.write_text("\n".join([*texts, ONE, *texts]), "utf-8", "surrogatepass")
    assert check([path])["events"] == 1


def test_a_row_of_other_words_is_seen(tmp_path: Path) -> None:
    (path := tmp_path / "events.json").write_text(lines(EVENTS))
    tables = read([path])
    row = tables["pulls"][0] if tables["pulls"] else tables["other_pulls"][0]
    row |= {"image": "another", "node": "another node", "pod": "another pod", "pull_s": 9.75}
    found = list(invented(tables, path.read_bytes()))
    assert [line.split(": ")[1].split()[0] for line in found] == ["image", "node", "pod", "pull_s"]
