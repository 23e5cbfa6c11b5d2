"""Prices of machines."""

import pytest

from analysis.read.machines import usd_per_hour


@pytest.mark.parametrize(("machine", "usd"), [("n1-standard-16", 0.76), ("n1-standard-64", 3.04)])
def test_the_original_studys_machines_have_a_price(machine: str, usd: float) -> None:
    assert usd_per_hour(machine) == usd


def test_an_unknown_machine_has_no_price() -> None:
    assert usd_per_hour("m5.large") is None
    assert usd_per_hour("") is None
