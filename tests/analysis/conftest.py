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
    """The original study's events; set PULL_STUDY_DATA to where they are.

    Without the variable a missing folder skips a test, since the data are no part of the project;
    with it, it is a mistake.
    """
    folder = DATA / "container-chonks"
    if not folder.is_dir():
        assert "PULL_STUDY_DATA" not in os.environ, f"{folder} does not exist (PULL_STUDY_DATA)"
        pytest.skip(f"no recorded data of container-chonks in {DATA} (PULL_STUDY_DATA)")
    return folder
