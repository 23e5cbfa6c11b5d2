"""Recorded data of the original study, and small recordings made in code."""

from pathlib import Path

import pytest

from tests.recorded_data import recorded


@pytest.fixture(scope="session")
def chonks() -> Path:
    """The original study's events, or the test is skipped."""
    return recorded()
