"""Recorded data of the original study, and small recordings made in code."""

import os
from pathlib import Path

import pytest

DATA = Path(
    os.environ.get(
        "PULL_STUDY_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"
    )
)


@pytest.fixture(scope="session")
def chonks() -> Path:
    """The original study's events; set PULL_STUDY_DATA to where they are."""
    folder = DATA / "container-chonks"
    if not folder.is_dir():
        pytest.skip(f"no recorded data of container-chonks in {DATA} (PULL_STUDY_DATA)")
    return folder
