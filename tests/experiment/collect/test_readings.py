"""The columns of a cell that read its image, and the marks of what speaks against them."""

from typing import Any

import pytest

from experiment.collect.ledger import RunHistory
from schema.run_records import CellRecord, Reading, ShareRead, Status
from schema.study import Share
from tests.experiment.conftest import Story

SHARES = (Share.TENTH, Share.HALF, Share.ALL)
CLAIMED = 48_702_097
"""Bytes of the story's image by its tag."""


def reading(total: int = CLAIMED, read: float = 1.0, **changes: Any) -> Reading:
    reads = tuple(
        ShareRead(percent=percent, bytes=round(total * percent / 100 * read), seconds=percent / 50)
        for percent in (10, 50, 100)
    )
    return Reading(**({"bytes": total, "list_s": 0.25, "reads": reads} | changes))


def judged(story: Story, shares: tuple[Share, ...] = SHARES, scale: float = 1.0) -> CellRecord:
    return story.judge(history=RunHistory(shares=shares, scale=scale))[0]


def columns(cell: CellRecord) -> tuple[float | int | None, ...]:
    return cell.read_bytes, cell.reading_s, cell.read_10_s, cell.read_50_s, cell.read_100_s


NONE = (None,) * 5


def test_a_reading_becomes_columns(story: Story) -> None:
    story.change_pod(0, reading=reading())
    cell = judged(story)
    assert columns(cell) == (CLAIMED, 2.25, 0.2, 1.0, 2.0)
    assert (cell.status, cell.marks) == (Status.VALID, ())


def test_a_study_that_reads_nothing_has_no_columns_whatever_a_pod_says(story: Story) -> None:
    story.change_pod(0, reading=reading())
    cell = judged(story, ())
    assert (columns(cell), cell.marks) == (NONE, ())


@pytest.mark.parametrize(
    ("said", "mark"),
    [
        (None, "its pod reported no reading: there is no termination message"),
        (Reading(note="the image has no find"),
         "its pod reported no reading: the image has no find"),
    ],
)  # fmt: skip
def test_a_pod_without_a_reading_has_a_mark_that_says_why(
    story: Story, said: Reading | None, mark: str
) -> None:
    story.change_pod(0, reading=said)
    cell = judged(story)
    assert (columns(cell), cell.marks) == (NONE, (mark,))


def test_a_pod_that_failed_needs_no_mark(story: Story) -> None:
    story.change_pod(0, phase="Failed", failure="exit code 1: Error")
    assert judged(story).marks == ()


def test_files_that_cannot_be_read_leave_their_share_without_a_time(story: Story) -> None:
    story.change_pod(0, reading=reading(read=0.9))
    cell = judged(story)
    assert columns(cell)[2:] == (None, None, None)
    assert cell.read_bytes == round(CLAIMED * 0.9)
    (mark,) = cell.marks
    assert mark == (
        "its pod read 43831887 bytes, and 100 % of its image's files are 48702097: not all can be "
        "read"
    )


def test_fewer_bytes_than_the_tag_claims_are_a_contradiction(story: Story) -> None:
    story.change_pod(0, reading=reading(total=1_000_000))
    (mark,) = judged(story).marks
    assert mark == (
        "its image's files had 1000000 bytes, and 48702097 by its tag: the figures of reading are "
        "of fewer bytes"
    )
    assert judged(story, scale=0.02).marks == ()


def test_other_shares_than_the_study_reads_are_a_contradiction(story: Story) -> None:
    story.change_pod(0, reading=reading())
    cell = judged(story, (Share.HALF,))
    assert columns(cell)[2:] == (None, 1.0, None)
    assert cell.marks == ("its pod reported other shares than those that the study reads",)
