"""Prices and limits of machines."""

import pytest

from analysis.read.machines import NETWORK_BYTES_PER_S, usd_per_hour


@pytest.mark.parametrize(("machine", "usd"), [("n1-standard-16", 0.76), ("n1-standard-64", 3.03)])
def test_the_original_studys_machines_cost_what_it_says(machine: str, usd: float) -> None:
    assert usd_per_hour(machine) == usd


def test_an_unknown_machine_has_no_price() -> None:
    assert usd_per_hour("m5.large") is None
    assert usd_per_hour("") is None


def test_a_machine_whose_limits_are_known_has_a_price() -> None:
    assert all(usd_per_hour(machine) for machine in NETWORK_BYTES_PER_S)
