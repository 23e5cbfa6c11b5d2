import pytest

from experiment.errors import PreflightError
from experiment.preflight import check_disk, check_programs
from schema.run_records import PlannedTrial
from tests.experiment.test_plan import image


def test_a_study_larger_than_the_disk_is_refused() -> None:
    trials = [
        PlannedTrial(trial=n, repetition=1, image=image(19034736629 + n, f"l{n}"), warm_bytes=0)
        for n in range(1, 6)
    ]
    with pytest.raises(PreflightError, match="take 95 GB unpacked") as caught:
        check_disk(trials, 100)
    assert "diskSizeGb" in caught.value.cure
    check_disk(trials, 200)


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(PreflightError, match="pulumi is not on PATH"):
        check_programs()
