from datetime import timedelta

import pytest

from experiment.terminal.summary import closing_table, image_lines
from schema.run_records import Status
from tests.experiment.conftest import START, Story


def test_a_line_counts_valid_cells_alone(story: Story) -> None:
    story.change_pod(0, phase="Pending", failure="ErrImagePull: gone")
    cells = story.judge()
    assert cells[0].status is Status.FAILED
    (line,) = image_lines([story.trial], cells)
    assert (line.valid, line.cells) == (3, 4)
    assert (line.median_s, line.p95_s, line.max_s) == (1.5, 1.5, 1.5)
    assert line.wall_s == pytest.approx(5.0)
    assert line.gap_s is None
    assert line.excluded == "1 failed"


def test_the_gap_is_from_the_last_end_to_the_next_first_binding(story: Story) -> None:
    first = story.trial
    later = START + timedelta(seconds=5.25)
    second = first.model_copy(update={"trial": 2, "first_bound_at": later})
    lines = image_lines([first, second], [])
    assert lines[1].gap_s == pytest.approx(0.25)


def test_a_trial_without_valid_cells_has_no_numbers(story: Story) -> None:
    story.pods = []
    cells = story.judge()
    (line,) = image_lines([story.trial], cells)
    assert line.median_s is None
    assert line.excluded == "4 aborted"
    assert closing_table([line], "0 of 4").row_count == 1
