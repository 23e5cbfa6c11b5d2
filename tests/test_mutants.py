"""Protections that can be turned off are missed by a test (python -m tests.mutants)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.mutants import MUTANTS, ROOT, Mutant, judge, mutated

RECORD = ROOT / "docs" / "track-record.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(?:\w+::)?(\w+)`")


def is_test(path: str, name: str) -> bool:
    return bool(re.search(rf"(?m)^ *def {name}\(", (ROOT / path).read_text("utf-8")))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_has_its_text_and_its_test(mutant: Mutant) -> None:
    source = (ROOT / mutant.path).read_text("utf-8")
    changed = mutated(mutant, source)
    assert changed != source
    compile(changed, mutant.path, "exec")
    path, *_, name = mutant.test.split("::")
    assert is_test(path, name)


def test_a_text_that_is_not_there_once_is_no_mutant() -> None:
    mutant = Mutant("m", "a.py", "x", "y", "t")
    for source in ("", "x x"):
        with pytest.raises(ValueError, match="times"):
            mutated(mutant, source)


def test_every_test_of_the_track_record_exists() -> None:
    named = TEST.findall(RECORD.read_text("utf-8"))
    assert len(named) > 20
    assert [test for test in named if not is_test(*test)] == []


def test_the_track_record_has_the_number_of_mutants() -> None:
    assert f"{len(MUTANTS)} of {len(MUTANTS)} mutants caught" in RECORD.read_text("utf-8")


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_every_mutant_is_caught(tmp_path: Path) -> None:
    assert judge(MUTANTS, tmp_path) == 0
