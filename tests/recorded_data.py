"""Where recordings of the original study are: no part of this project (docs/contributing.md)."""

import os
from pathlib import Path

import pytest

VARIABLE = "PULL_STUDY_DATA"
CHONKS = (
    Path(os.environ.get(VARIABLE) or Path(__file__).resolve().parents[2] / "shared" / "data")
    / "container-chonks"
)


def recorded(name: str = "") -> Path:
    """Return a file or folder of the recordings.

    Without the variable a missing one skips the test; with it, it is a mistake.
    """
    path = CHONKS / name
    if not path.exists():
        assert not os.environ.get(VARIABLE), f"{path} does not exist ({VARIABLE})"
        pytest.skip(f"no {path}; docs/contributing.md, Recorded data, says how to get it")
    return path
