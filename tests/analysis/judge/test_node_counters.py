"""Which of a kubelet's figures tell what a pull moved."""

from datetime import timedelta

import pytest

from analysis.judge.node_counters import moved_bytes
from schema.run_records import CellPhases, CellRecord, NodeStatsRecord, Status
from tests.analysis.recorded import START

MB = 1_000_000


def cell(trial: int, begin: float, end: float | None, *, image_bytes: int = 90 * MB) -> CellRecord:
    return CellRecord(
        run="r",
        trial=trial,
        repetition=1,
        nodes=1,
        reference="r/x:y",
        tag="y",
        node="n",
        pod="p",
        pod_uid="u",
        status=Status.VALID,
        reason="",
        pull_s=1.0,
        pull_and_wait_s=1.0,
        image_bytes=image_bytes,
        warm_bytes=0,
        sources={},
        phases=CellPhases(
            pulling_at=START + timedelta(seconds=begin),
            pulled_at=None if end is None else START + timedelta(seconds=end),
        ),
    )


def stats(moment: str, at: float, **figures: int | None) -> NodeStatsRecord:
    known = {"trial": 1, "moment": moment, "node": "n", "at": START + timedelta(seconds=at)}
    return NodeStatsRecord.model_validate(known | figures)


BEFORE = stats("before", 0, received_bytes=5 * MB, written_bytes=MB, image_disk_used_bytes=0)
AFTER = stats(
    "after", 130, received_bytes=105 * MB, written_bytes=901 * MB, image_disk_used_bytes=950 * MB
)


def test_figures_around_one_pull_show_what_it_moved() -> None:
    assert moved_bytes([BEFORE, AFTER], [cell(1, 10, 110)]) == {
        (1, 1, "n"): {
            "received_bytes": 100 * MB,
            "written_bytes": 900 * MB,
            "disk_bytes": 950 * MB,
        }
    }


@pytest.mark.parametrize(
    "others",
    [[cell(2, 122, 200)], [cell(2, -50, 5)], [cell(2, 200, 300), cell(3, -50, -1)]],
    ids=["the next begins", "the last ends", "others lie apart"],
)
def test_a_little_of_another_pull_does_no_harm(others: list[CellRecord]) -> None:
    assert (1, 1, "n") in moved_bytes([BEFORE, AFTER], [cell(1, 10, 110), *others])


@pytest.mark.parametrize(
    "cells",
    [
        [cell(1, 10, 110), cell(2, 111, 200)],
        [cell(1, -30, 110)],
        [cell(1, 10, 190)],
        [cell(1, 10, None)],
        [],
    ],
    ids=["the next pull too", "begun before", "ended after", "never ended", "no such cell"],
)
def test_figures_of_more_or_less_than_the_pull_are_not_used(
    cells: list[CellRecord],
) -> None:
    assert (1, 1, "n") not in moved_bytes([BEFORE, AFTER], cells)


def test_a_single_reading_gives_nothing() -> None:
    assert moved_bytes([BEFORE], [cell(1, 10, 110)]) == {}


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"received_bytes": None}, None),
        ({"received_bytes": 4 * MB}, None),
        ({"received_bytes": 49 * MB}, None),
        ({"received_bytes": 51 * MB}, 46 * MB),
    ],
    ids=["not told", "counted anew", "another interface", "compressed on the way"],
)
def test_received_bytes_count_where_they_can_be_the_pulls(
    figures: dict[str, int | None], told: int | None
) -> None:
    found = moved_bytes([BEFORE, stats("after", 130, **figures)], [cell(1, 10, 110)])
    assert found[1, 1, "n"]["received_bytes"] == told


def test_the_disk_of_the_images_goes_before_the_nodes() -> None:
    plain = [stats("before", 0, disk_used_bytes=1), stats("after", 130, disk_used_bytes=100)]
    assert moved_bytes(plain, [cell(1, 10, 110)])[1, 1, "n"]["disk_bytes"] == 99
    both = [
        stats("before", 0, disk_used_bytes=1, image_disk_used_bytes=10),
        stats("after", 130, disk_used_bytes=100, image_disk_used_bytes=30),
    ]
    assert moved_bytes(both, [cell(1, 10, 110)])[1, 1, "n"]["disk_bytes"] == 20
